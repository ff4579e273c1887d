"""What a line of a run's journal becomes: rows of the ledger's tables. Nothing here touches the database."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flowlab.core.digest import base_id, canonical_json
from flowlab.core.types import join_slice, split_slice
from flowlab.journal.journal import Line
from flowlab.ledger.fields import BadLine, Fields, as_number, as_text, as_whole
from flowlab.study.lever import flat_keys

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
    "rule_stages": ("rule_digest", "position"),
    "rule_guardrails": ("rule_digest", "position"),
    "rule_seeds": ("rule_digest", "role", "position"),
    "amendments": ("rule_digest", "amended_digest"),
}
"""What makes a row the same row in each table. The first one stays; another with other values is a conflict."""

SAID_BY_READERS = ("conflict", "missing_part", "unreadable_line")
"""Events that ingestion adds of its own; no line of a journal may claim them."""

WHEN_AND_WHERE = {"time_us", "position"}  # may differ when a line is written again


Maker = Callable[[Fields, Row], Iterator[tuple[str, Row]]]


def rows_of(line: Line, place: Row, makers: Mapping[str, Maker]) -> list[tuple[str, Row]]:
    """The (table, row) pairs that `line` says; `place` is its journal and run. Raises BadLine."""
    if line.problem:
        raise BadLine(line.problem)
    kind = line.fields["kind"]
    if kind not in makers:
        raise BadLine(f"unknown kind {kind!r}, expected one of {', '.join(sorted(makers))}")
    when = {"time_us": as_whole(line.fields["time_us"], "time_us"), "position": line.position}
    return list(makers[kind](Fields(line.fields), place | when))


def event_row(place: Row, what: str, detail: str, step: int | None = None) -> Row:
    """A row of `events`: what a journal says, or one of SAID_BY_READERS."""
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


def _registered(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    run_id = place["run_id"]
    if line.text("run_id") != run_id:
        raise BadLine(f"run_id is {line.text('run_id')!r}, expected the folder's name {run_id!r}")
    yield (
        "runs",
        {"run_id": run_id, "time_us": place["time_us"]}
        | {name: line.text(name) for name in ("study", "lever", "recipe_digest", "control_digest", "cache_id")}
        | {name: line.text(name) for name in ("evaluation_id", "hypothesis")}
        | {name: line.whole(name) for name in ("seed", "replicate")}
        | {"evaluation_json": canonical_json(line.table("evaluation")), "changed_keys": line.texts("changed_keys")}
        | {"origin": line.text("origin") if line.has("origin") else None}
        | {"base_id": base_id(line.text("control_digest"), line.text("evaluation_id"))},
    )
    for key, value in flat_keys(line.table("recipe")):
        yield "run_settings", {"run_id": run_id, "key": key, "value_json": canonical_json(value)}
    for tag in line.texts("tags"):
        taxonomy, colon, value = tag.partition(":")
        if not colon:
            raise BadLine(f"tag {tag!r} is not of the form taxonomy:value")
        yield "tags", {"run_id": run_id, "taxonomy": taxonomy, "value": value}
    yield "events", event_row(place, "registered", "")


def _started(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    attempt = {"run_id": place["run_id"], "attempt": line.whole("attempt")}
    yield (
        "attempts",
        attempt
        | {"time_us": place["time_us"]}
        | {name: line.text(name) for name in ("device", "git_revision")}
        | {name: line.whole(name) for name in ("cohort_size", "threads", "pid")},
    )
    for key, value in line.table("environment").items():
        yield (
            "environments",
            attempt | {"key": key, "value": value if isinstance(value, str) else canonical_json(value)},
        )
    yield "events", event_row(place, "started", f"attempt {attempt['attempt']}")


def _metrics(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    for item in line.items("rows"):
        if not isinstance(item, list) or len(item) not in (6, 7):
            raise BadLine(f"metric row {item!r} is not [metric, channel, slice, readout, value, step]")
        metric, channel, where, readout, value, step, *drive = item
        where, on_drive = (
            (as_text(where, "slice"), as_text(drive[0], "drive")) if drive else split_slice(as_text(where, "slice"))
        )
        yield (
            "metrics",
            {
                "run_id": place["run_id"],
                "metric": as_text(metric, "metric"),
                "channel": as_text(channel, "channel"),
                "slice": where,
                "drive": on_drive,
                "readout": as_text(readout, "readout"),
                "step": as_whole(step, "step"),
                "value": as_number(value, "value"),
                "time_us": place["time_us"],
            },
        )


def _wall_time(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    for phase, seconds in line.table("phases").items():
        yield "wall_times", only(place, "run_id", "position") | {"phase": phase, "seconds": as_number(seconds, phase)}


def _artifact(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    row = only(place, "run_id", "position", "time_us") | {name: line.text(name) for name in ("name", "digest")}
    yield "artifacts", row | {"num_bytes": line.whole("bytes")}


def _event(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    if line.text("what") in SAID_BY_READERS:
        raise BadLine(f"what is {line.text('what')!r}, which is for the reader of a journal to say")
    yield "events", event_row(place, line.text("what"), line.text("detail"))


def _finished(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    del line
    yield "events", event_row(place, "finished", "")


def _crashed(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    yield "tags", {"run_id": place["run_id"], "taxonomy": "outcome", "value": "crashed-early"}
    yield "events", event_row(place, "crashed", line.text("reason"), line.whole("step"))


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
