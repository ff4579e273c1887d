"""The lines of a run's journal, one model a kind: what is written, what is read, and what either may hold."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from flowlab.core.types import split_slice
from flowlab.journal.said import JournalLine
from flowlab.journal.values import (
    MAX_NUMBER,
    MAX_WHOLE,
    BadLine,
    Facts,
    Seconds,
    Settings,
    Table,
    Text,
    TextOrNone,
    Texts,
    Whole,
    WholeOrNone,
    as_list,
    as_number,
    as_text,
    as_whole,
    checked,
    fault,
)

SAID_BY_READERS = ("conflict", "missing_part", "unreadable_line")
"""Events that ingestion adds of its own; no line of a journal may claim them."""


class Registered(JournalLine):
    """What the run is, before it starts. It changes the recipe `control_digest`; tags are "taxonomy:value".

    `origin` says where the run was imported from; rules never stack on such a run. None for a run of our own.
    """

    checked_last = ("seed", "replicate", "evaluation", "changed_keys", "origin", "recipe", "tags")
    left_out = ("origin",)

    kind: Literal["registered"] = "registered"
    run_id: Text
    study: Text
    lever: Text
    seed: Whole
    replicate: Whole
    recipe: Settings
    recipe_digest: Text
    control_digest: Text
    cache_id: Text
    evaluation_id: Text
    evaluation: Table
    changed_keys: Texts = []
    hypothesis: Text = ""
    tags: Texts = []
    origin: TextOrNone = None

    @field_validator("run_id")
    @classmethod
    def _is_the_folder(cls, run_id: str, info: ValidationInfo) -> str:
        if info.context not in (None, run_id):
            raise fault(f"run_id is {run_id!r}, expected the folder's name {info.context!r}")
        return run_id

    @field_validator("tags")
    @classmethod
    def _have_a_taxonomy(cls, tags: list[str]) -> list[str]:
        for tag in tags:
            if ":" not in tag:
                raise fault(f"tag {tag!r} is not of the form taxonomy:value")
        return tags


class Started(JournalLine):
    """A process begins (attempt 0) or continues (1, 2, ...) to work on the run."""

    checked_last = ("cohort_size", "threads", "pid", "environment")

    kind: Literal["started"] = "started"
    attempt: Whole
    device: Text
    cohort_size: Whole
    threads: Whole
    pid: Whole
    environment: Facts
    git_revision: Text


MetricTuple = tuple[str, str, str, str, float, int, str]
"""The fields of a MetricRow. Plain tuples, since the garbage collector looks at a NamedTuple again and again."""


def _metric_rows(value: Any, name: str) -> list[MetricTuple]:
    """Rows, looked at all at once where they are as flowlab writes them: a line may hold thousands."""
    rows = []
    for item in as_list(value, name):
        if type(item) is not list or len(item) not in (6, 7):
            rows.append(_metric_row(item))
            continue
        metric, channel, where, readout, number, step = item[:6]
        drive = item[6] if len(item) == 7 else ""
        if (
            type(metric) is type(channel) is type(where) is type(readout) is type(drive) is str
            and (type(number) is float and abs(number) <= MAX_NUMBER)
            and (type(step) is int and abs(step) <= MAX_WHOLE)
        ):
            if len(item) == 6 and "drive:" in where:
                where, drive = split_slice(where)
            rows.append((metric, channel, where, readout, number, step, drive))
        else:
            rows.append(_metric_row(item))
    return rows


def _metric_row(item: Any) -> MetricTuple:
    """A row as a journal has it: the drive is its last item, or part of the slice. Or as a writer has it."""
    if not (isinstance(item, tuple) or (isinstance(item, list) and len(item) in (6, 7))):
        raise BadLine(f"metric row {item!r} is not [metric, channel, slice, readout, value, step]")
    metric, channel, where = (as_text(item[i], name) for i, name in enumerate(("metric", "channel", "slice")))
    where, drive = split_slice(where) if len(item) == 6 else (where, as_text(item[6], "drive"))
    readout, step, value = as_text(item[3], "readout"), as_whole(item[5], "step"), as_number(item[4], "value")
    return metric, channel, where, readout, value, step, drive


class Metrics(JournalLine):
    """Metric rows, one line for all of them. Step -1 is the end of the run."""

    kind: Literal["metrics"] = "metrics"
    rows: Annotated[list[MetricTuple], checked(_metric_rows)]

    def told(self) -> dict[str, Any]:
        """The drive comes last in a row, where there is one."""
        return super().told() | {"rows": [row if row[-1] else row[:-1] for row in self.rows]}


class WallTime(JournalLine):
    """Seconds that this attempt spent on the run in each phase: import, load, train, validate, evaluate, save.

    The run's share of its cohort's, and only since the attempt's last such line. Journals of earlier versions have no
    attempt, and the whole cohort's seconds.
    """

    left_out = ("attempt",)

    kind: Literal["wall_time"] = "wall_time"
    phases: Seconds
    attempt: WholeOrNone = None


class Artifact(JournalLine):
    """A file that the run left in its folder."""

    kind: Literal["artifact"] = "artifact"
    name: Text
    digest: Text
    bytes: Whole


class Event(JournalLine):
    """Something that happened: "resumed", "interrupted" (the only one that changes the run's state), ..."""

    kind: Literal["event"] = "event"
    what: Text
    detail: Text = ""

    @field_validator("what")
    @classmethod
    def _is_not_a_readers(cls, what: str) -> str:
        if what in SAID_BY_READERS:
            raise fault(f"what is {what!r}, which is for the reader of a journal to say")
        return what


class Finished(JournalLine):
    """The run is complete; its metrics at step -1 count from now on."""

    kind: Literal["finished"] = "finished"


class Crashed(JournalLine):
    """The run gave up at `step`."""

    kind: Literal["crashed"] = "crashed"
    reason: Text
    step: Whole


RunLine = Annotated[
    Registered | Started | Metrics | WallTime | Artifact | Event | Finished | Crashed, Field(discriminator="kind")
]
