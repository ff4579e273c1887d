"""Writes the metrics of runs as TensorBoard event files, without TensorFlow and without torch.

A number in an event file is a float32. One folder a run, named by its id; one file in it, always of the same name, so
that writing it again takes the place of the old one.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flowlab.core.errors import MissingError, unknown_name
from flowlab.core.files import write_atomic
from flowlab.core.progress import SILENT, Progress
from flowlab.core.vocabulary import FINAL_STEP
from flowlab.interop.metric_map import MetricName
from flowlab.ledger.connection import read

FILE_NAME = "events.out.tfevents.0.flowlab"  # TensorBoard looks for "tfevents" in the name
FINAL = "final"


class EventFiles(NamedTuple):
    """How much was written; `empty` names runs without a metric, which get no file."""

    num_runs: int
    num_values: int
    empty: list[str]


class Scalar(NamedTuple):
    """One number as TensorBoard shows it."""

    step: int
    time_us: int
    tag: str
    value: float


def write_event_files(
    ledger_path: Path, folder: Path, run_ids: Sequence[str] = (), progress: Progress = SILENT
) -> EventFiles:
    """Write the metrics of these runs, or of all, to `folder`/<run_id>.

    Raises MissingError if tensorboard is not installed or there is no ledger, UnknownNameError for a run that the
    ledger does not have.
    """
    require_tensorboard()
    registered = {row["run_id"]: row["time_us"] for row in read(ledger_path, "select * from runs").records()}
    for run_id in run_ids:
        if run_id not in registered:
            raise unknown_name("run", run_id, registered)
    num_values, empty, chosen = 0, [], list(dict.fromkeys(run_ids)) or sorted(registered)
    with progress.task("write event files", len(chosen), "runs") as task:
        for run_id in chosen:
            records = read(ledger_path, "select * from metrics where run_id = ?", [run_id]).records()
            if records:
                write_atomic(folder / run_id / FILE_NAME, event_file(scalars_of(records), registered[run_id]))
            else:
                empty.append(run_id)
            num_values += len(records)
            task.advance()
    return EventFiles(len(chosen) - len(empty), num_values, empty)


def require_tensorboard() -> None:
    """Raises MissingError if tensorboard is not installed."""
    try:
        import tensorboard.summary.writer.record_writer  # noqa: F401
    except ImportError as error:
        raise MissingError(
            f"event files need the library tensorboard, which is not installed ({error}). Install it: "
            f"pip install 'flowlab[tensorboard]'"
        ) from None


def scalars_of(records: Sequence[dict[str, Any]]) -> list[Scalar]:
    """Rows of `metrics` of one run, as scalars in the order of their steps. Final values stand at the last step."""
    last = max(0, *(row["step"] for row in records))
    tags = _Tags()
    scalars = []
    for row in sorted(records, key=lambda row: (row["step"] == FINAL_STEP, row["step"], row["time_us"])):
        final, step = (True, last) if row["step"] == FINAL_STEP else (False, row["step"])
        name = MetricName(row["metric"], row["channel"], row["slice"], row["readout"], row["drive"])
        scalars.append(Scalar(step, row["time_us"], tags.of(name, final), row["value"]))
    return scalars


class _Tags:
    """Names numbers; two that would have one name are told apart by a hyphen for each part that is empty."""

    def __init__(self) -> None:
        self._owners: dict[str, tuple[MetricName, bool]] = {}

    def of(self, name: MetricName, final: bool) -> str:
        parts = [name.metric, name.frames, name.readout, name.channel]
        head = [FINAL] if final else []
        tag = "/".join(head + [part for part in parts if part])
        if self._owners.setdefault(tag, (name, final)) == (name, final):
            return tag
        return "/".join(head + [part or "-" for part in parts])


def event_file(scalars: Sequence[Scalar], start_us: int) -> bytes:
    """The bytes of an event file: a first record that tells its format, then one for each step and time."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    writer.write(Event(wall_time=start_us / 1e6, file_version="brain.Event:2").SerializeToString())
    for group in _together(scalars):
        values = [Summary.Value(tag=scalar.tag, simple_value=scalar.value) for scalar in group]
        event = Event(wall_time=group[0].time_us / 1e6, step=group[0].step, summary=Summary(value=values))
        writer.write(event.SerializeToString())
    return buffer.getvalue()


def _together(scalars: Sequence[Scalar]) -> Iterator[list[Scalar]]:
    """Neighbours of one step and one time, no tag twice."""
    group: list[Scalar] = []
    for scalar in scalars:
        same = group and (scalar.step, scalar.time_us) == (group[0].step, group[0].time_us)
        if group and not same:
            yield group
            group = []
        group.append(scalar)
    if group:
        yield group
