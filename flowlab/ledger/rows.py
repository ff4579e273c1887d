"""What a line of a run's journal becomes: rows of the ledger's tables. Nothing here touches the database."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from flowlab.core.digest import canonical_json
from flowlab.core.types import join_slice
from flowlab.journal.journal import Line
from flowlab.journal.values import BadLine
from flowlab.study.lever import flat_keys

if TYPE_CHECKING:
    from flowlab.journal.run_lines import Artifact, Crashed, Event, Finished, Metrics, Registered, Started, WallTime
    from flowlab.journal.said import JournalLine, Said

Row = dict[str, Any]

NATURAL_KEYS: dict[str, tuple[str, ...]] = {
    "runs": ("run_id",),
    "run_settings": ("run_id", "key"),
    "tags": ("run_id", "taxonomy", "value"),
    "attempts": ("run_id", "attempt"),
    "environments": ("run_id", "attempt", "key"),
    "metrics": ("run_id", "metric", "channel", "slice", "readout", "step", "drive"),
    "events": ("journal", "position", "what", "detail"),
    "wall_times": ("run_id", "position", "phase"),
    "artifacts": ("run_id", "position"),
    "caches": ("cache_id",),
    "rules": ("rule_digest",),
    "rule_terms": ("rule_digest",),
    "rule_stages": ("rule_digest", "position"),
    "rule_guardrails": ("rule_digest", "position"),
    "rule_seeds": ("rule_digest", "role", "position"),
    "amendments": ("rule_digest", "amended_digest"),
    "screens": ("screen",),
    "screen_levers": ("screen", "lever"),
    "screen_rows": ("screen", "row_name"),
    "screen_weights": ("screen", "solution", "lever", "row_name"),
}
"""What makes a row the same row in each table. The first one stays; another with other values is a conflict."""

WHEN_AND_WHERE = {"time_us", "position"}  # may differ when a line is written again

Maker = Callable[[Any, Row], Iterable[tuple[str, Row]]]
"""From a line of one kind, and its journal, run, time and position, to the rows that it says, each with its table."""

SINCE_0004 = {"encoder", "calibrate", "screen", "weights", "tree", "phase", "note", "tag"}
"""Kinds that came after the sentence about unknown kinds, which ledgers keep: it names those of revision 0003."""


def rows_of(line: Line, place: Row, makers: Mapping[str, Maker]) -> list[tuple[str, Row]]:
    """The (table, row) pairs that `line` says; `place` is its journal and run. Raises BadLine."""
    if line.problem:
        raise BadLine(line.problem)
    kind = line.fields["kind"]
    if kind not in makers:
        raise BadLine(f"unknown kind {kind!r}, expected one of {', '.join(sorted(makers.keys() - SINCE_0004))}")
    said = _models()[kind].read(line.fields, place.get("run_id"))
    return list(makers[kind](said, place | {"time_us": said.time_us, "position": line.position}))


@cache
def _models() -> "dict[str, type[JournalLine]]":
    """The models of lines. They take a while to make, and most commands read no line."""
    from flowlab.journal.lines import KINDS

    return KINDS


def event_row(place: Row, what: str, detail: str, step: int | None = None) -> Row:
    """A row of `events`: what a journal says, or its reader."""
    return {"run_id": None} | place | {"what": what, "detail": detail, "step": step}


def key_of(table: str, row: Row) -> tuple[Any, ...]:
    return tuple(row[column] for column in NATURAL_KEYS[table])


def difference(table: str, first: Row, second: Row) -> str:
    """What differs between two rows of one natural key, as text; "" if they say the same."""
    for column, value in second.items():
        if column not in WHEN_AND_WHERE and first.get(column) != value:
            key = " ".join(str(part) for part in spelled_key(table, first) if part != "")
            return f"{table}: {key}: {column} was {first.get(column)!r}, then {value!r}"
    return ""


def spelled_key(table: str, row: Row) -> tuple[Any, ...]:
    """The natural key as messages tell it: a drive is told with its slice, as it stood in the chain from the first."""
    if table != "metrics":
        return key_of(table, row)
    return (*key_of(table, row | {"slice": join_slice(row["slice"], row["drive"])})[:-1],)


def _registered(line: "Registered", place: Row) -> Iterator[tuple[str, Row]]:
    run = only(place, "run_id")
    row = run | {"time_us": line.time_us}
    row |= taken(line, "study", "lever", "recipe_digest", "control_digest", "cache_id", "evaluation_id", "hypothesis")
    row |= taken(line, "seed", "replicate") | {"evaluation_json": canonical_json(line.evaluation)}
    row |= taken(line, "changed_keys", "origin")
    yield "runs", row
    for key, value in flat_keys(line.recipe):
        yield "run_settings", run | {"key": key, "value_json": canonical_json(value)}
    for tag in line.tags:
        taxonomy, _, value = tag.partition(":")
        yield "tags", run | {"taxonomy": taxonomy, "value": value}
    yield "events", event_row(place, "registered", "")


def _started(line: "Started", place: Row) -> Iterator[tuple[str, Row]]:
    attempt = only(place, "run_id") | taken(line, "attempt")
    row = attempt | {"time_us": line.time_us}
    yield "attempts", row | taken(line, "device", "git_revision", "cohort_size", "threads", "pid")
    for key, value in line.environment.items():
        text = value if isinstance(value, str) else canonical_json(value)
        yield "environments", attempt | {"key": key, "value": text}
    yield "events", event_row(place, "started", f"attempt {line.attempt}")


def _metrics(line: "Metrics", place: Row) -> list[tuple[str, Row]]:
    run_id, time_us = place["run_id"], line.time_us
    return [
        (
            "metrics",
            {
                "run_id": run_id,
                "metric": metric,
                "channel": channel,
                "slice": where,
                "drive": drive,
                "readout": readout,
                "step": step,
                "value": value,
                "time_us": time_us,
            },
        )
        for metric, channel, where, readout, value, step, drive in line.rows
    ]


def _wall_time(line: "WallTime", place: Row) -> Iterator[tuple[str, Row]]:
    for phase, seconds in line.phases.items():
        own = {"phase": phase, "seconds": seconds, "attempt": line.attempt}
        yield "wall_times", only(place, "run_id", "position") | own


def _artifact(line: "Artifact", place: Row) -> Iterator[tuple[str, Row]]:
    row = only(place, "run_id", "position", "time_us") | taken(line, "name", "digest")
    yield "artifacts", row | {"num_bytes": line.bytes}


def _event(line: "Event", place: Row) -> Iterator[tuple[str, Row]]:
    yield "events", event_row(place, line.what, line.detail)


def _finished(_: "Finished", place: Row) -> Iterator[tuple[str, Row]]:
    yield "events", event_row(place, "finished", "")


def _crashed(line: "Crashed", place: Row) -> Iterator[tuple[str, Row]]:
    yield "tags", only(place, "run_id") | {"taxonomy": "outcome", "value": "crashed-early"}
    yield "events", event_row(place, "crashed", line.reason, line.step)


RUN_KINDS: dict[str, Maker] = {
    "registered": _registered,
    "started": _started,
    "metrics": _metrics,
    "wall_time": _wall_time,
    "artifact": _artifact,
    "event": _event,
    "finished": _finished,
    "crashed": _crashed,
}


def only(place: Row, *columns: str) -> Row:
    return {column: place[column] for column in columns}


def taken(said: "Said", *names: str) -> Row:
    """Fields that are columns of the same name."""
    return {name: getattr(said, name) for name in names}
