"""Who writes the lines of a run's journal, and of the study's: a method for each kind of line, named after it."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, get_args

from pydantic import ValidationError

from flowlab.core.errors import LedgerError
from flowlab.core.types import MetricRow
from flowlab.journal import loop_lines, run_lines, study_lines
from flowlab.journal.journal import RUN_JOURNAL, STUDY_JOURNAL, Journal, encode
from flowlab.journal.said import JournalLine

Given = ParamSpec("Given")


def _kinds(union: Any) -> dict[str, type[JournalLine]]:
    return {line.model_fields["kind"].default: line for line in get_args(get_args(union)[0])}


KINDS = _kinds(run_lines.RunLine) | _kinds(study_lines.StudyLine)
"""The model of each kind of line."""


def _write(journal: Journal, kind: type[JournalLine], fields: dict[str, Any]) -> None:
    """Write a line, durable on return. Raises LedgerError for one that no reader would take."""
    journal.append(**_told(journal, kind, fields))


def _told(journal: Journal, kind: type[JournalLine], fields: dict[str, Any]) -> dict[str, Any]:
    """A line as it is written, its kind among its fields. Raises as `_write` does."""
    try:
        line = kind(**fields)
    except ValidationError as error:
        name = kind.model_fields["kind"].default
        encode(name, fields, journal.path)  # a number that is not finite is told in words of its own
        raise LedgerError(f"a {name!r} line for {journal.path} cannot be written: {kind.fault(error)}.") from None
    return line.told()


def _writes(kind: Callable[Given, JournalLine]) -> Callable[Concatenate[Journal, Given], None]:
    """A method that takes the fields of that kind of line, and writes it."""
    model: Any = kind

    def write(journal: Journal, /, *_: Given.args, **fields: Given.kwargs) -> None:
        unknown = fields.keys() - model.model_fields.keys()
        if unknown:
            raise TypeError(f"{model.__name__} has no field {min(unknown)!r}")
        _write(journal, model, fields)

    return write


class RunJournal(Journal):
    """The journal of one run: `<runs>/<run_id>/journal.jsonl`. The folder's name is the run's id."""

    @classmethod
    def of(cls, runs_dir: Path, run_id: str) -> Self:
        """The journal of run `run_id`, open for appending."""
        return cls(runs_dir / run_id / RUN_JOURNAL)

    registered = _writes(run_lines.Registered)
    started = _writes(run_lines.Started)
    finished = _writes(run_lines.Finished)

    def whole(
        self, registered: Mapping[str, Any], attempts: Iterable[Mapping[str, Any]], rows: Iterable[MetricRow]
    ) -> None:
        """All that a finished run says, by one write: a journal has the whole of it or nothing."""
        told = [row._replace(value=float(row.value), step=int(row.step)) for row in rows]
        lines: list[tuple[type[JournalLine], dict[str, Any]]] = [
            (run_lines.Registered, dict(registered)),
            *((run_lines.Started, dict(attempt)) for attempt in attempts),
            (run_lines.Metrics, {"rows": told}),
            (run_lines.Finished, {}),
        ]
        self.append_all([_told(self, kind, fields) for kind, fields in lines])

    def metrics(self, rows: Iterable[MetricRow]) -> None:
        told = [row._replace(value=float(row.value), step=int(row.step)) for row in rows]
        _write(self, run_lines.Metrics, {"rows": told})

    def wall_time(self, phases: Mapping[str, float], attempt: int | None = None) -> None:
        told = {phase: float(seconds) for phase, seconds in phases.items()}
        _write(self, run_lines.WallTime, {"phases": told, "attempt": attempt})

    def artifact(self, name: str, digest: str, num_bytes: int) -> None:
        _write(self, run_lines.Artifact, {"name": name, "digest": digest, "bytes": num_bytes})

    def event(self, what: str, detail: str = "") -> None:
        _write(self, run_lines.Event, {"what": what, "detail": detail})

    def crashed(self, reason: str, step: int) -> None:
        _write(self, run_lines.Crashed, {"reason": reason, "step": step})


class StudyJournal(Journal):
    """The study's own journal: `<runs>/study.jsonl`."""

    @classmethod
    def of(cls, runs_dir: Path) -> Self:
        """The study's journal, open for appending."""
        return cls(runs_dir / STUDY_JOURNAL)

    cache = _writes(study_lines.Cache)
    calibrate = _writes(study_lines.Calibrate)
    seal = _writes(study_lines.Seal)
    amend = _writes(study_lines.Amend)
    base = _writes(study_lines.Base)
    encoder = _writes(study_lines.Encoder)
    stack = _writes(study_lines.Stack)
    screen = _writes(study_lines.Screen)
    screen_weights = _writes(study_lines.ScreenWeights)
    tree = _writes(loop_lines.Tree)
    phase = _writes(loop_lines.Phase)
    note = _writes(loop_lines.Note)
    tag = _writes(loop_lines.Tag)
    ingested = _writes(study_lines.Ingested)

    def ingested_parts(self, parts: Iterable[Mapping[str, Any]]) -> None:
        """A line `ingested` for each part, by one write: all of them wait for the disk once."""
        self.append_all([_told(self, study_lines.Ingested, dict(part)) for part in parts])

    def verdicts(self, rows: Iterable[Mapping[str, Any]]) -> None:
        _write(self, study_lines.Verdicts, {"rows": [dict(row) for row in rows]})

    def planned(self, run_ids: Iterable[str]) -> None:
        _write(self, study_lines.Planned, {"run_ids": list(run_ids)})
