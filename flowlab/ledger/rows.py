"""What a journal line becomes: rows of the ledger's tables, and the conflicts with rows that are there already.

Nothing here touches the database. Every field is checked, so that whatever passes can be inserted.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

from flowlab.core.digest import canonical_json, digest_json
from flowlab.ledger.journal import Line
from flowlab.study.lever import flat_keys

Row = dict[str, Any]
MAX_WHOLE = 2**63 - 1
MAX_NUMBER = sys.float_info.max

NATURAL_KEYS: dict[str, tuple[str, ...]] = {
    "runs": ("run_id",),
    "run_settings": ("run_id", "key"),
    "tags": ("run_id", "taxonomy", "value"),
    "attempts": ("run_id", "attempt"),
    "environments": ("run_id", "attempt", "key"),
    "metrics": ("run_id", "metric", "channel", "slice", "readout", "step"),
    "events": ("journal", "position", "what", "detail"),
    "wall_times": ("run_id", "position", "phase"),
    "artifacts": ("run_id", "position"),
    "caches": ("cache_id",),
    "rules": ("rule_digest",),
    "rule_stages": ("rule_digest", "position"),
    "rule_guardrails": ("rule_digest", "position"),
    "rule_seeds": ("rule_digest", "role", "position"),
}
"""What makes a row the same row in each table. The first one stays; another with other values is a conflict."""

WHEN_AND_WHERE = {"time_us", "position"}  # may differ when a line is written again


class BadLine(ValueError):
    """A field of a line that is missing or of the wrong type."""


class Fields:
    """Checked access to the fields of one line."""

    def __init__(self, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise BadLine(f"got {fields!r}, expected an object")
        self._fields: dict[str, Any] = fields

    def text(self, name: str) -> str:
        return _text(self._fields.get(name), name)

    def whole(self, name: str) -> int:
        return _whole(self._fields.get(name), name)

    def number(self, name: str) -> float:
        return _number(self._fields.get(name), name)

    def table(self, name: str) -> dict[str, Any]:
        value = self._fields.get(name)
        if not isinstance(value, dict):
            raise BadLine(f"{name} is {value!r}, expected an object")
        return value

    def items(self, name: str) -> list[Any]:
        value = self._fields.get(name)
        if not isinstance(value, list):
            raise BadLine(f"{name} is {value!r}, expected a list")
        return value

    def texts(self, name: str) -> list[str]:
        return [_text(item, name) for item in self.items(name)]


def rows_of(line: Line, journal: str, run_id: str | None) -> list[tuple[str, Row]]:
    """The (table, row) pairs that `line` of `journal` says; `run_id` is None for the study's own. Raises BadLine."""
    if line.problem:
        raise BadLine(line.problem)
    kind = line.fields["kind"]
    makers = STUDY_KINDS if run_id is None else RUN_KINDS
    if kind not in makers:
        raise BadLine(f"unknown kind {kind!r}, expected one of {', '.join(sorted(makers))}")
    place: Row = {"time_us": _whole(line.fields["time_us"], "time_us"), "position": line.position, "journal": journal}
    if run_id is not None:
        place["run_id"] = run_id
    return list(makers[kind](Fields(line.fields), place))


def event_row(place: Row, what: str, detail: str, step: int | None = None) -> Row:
    """A row of `events`. Besides what journals say, ingestion adds 'conflict' and 'unreadable_line' of its own."""
    return {"run_id": None} | place | {"what": what, "detail": detail, "step": step}


def key_of(table: str, row: Row) -> tuple[Any, ...]:
    return tuple(row[column] for column in NATURAL_KEYS[table])


def difference(table: str, first: Row, second: Row) -> str:
    """What differs between two rows of one natural key, as text; "" if they say the same."""
    for column, value in second.items():
        if column not in WHEN_AND_WHERE and first.get(column) != value:
            key = " ".join(str(part) for part in key_of(table, first) if part != "")
            return f"{table}: {key}: {column} was {first.get(column)!r}, then {value!r}"
    return ""


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
        | {"evaluation_json": canonical_json(line.table("evaluation")), "changed_keys": line.texts("changed_keys")},
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
        if not isinstance(item, list) or len(item) != 6:
            raise BadLine(f"metric row {item!r} is not [metric, channel, slice, readout, value, step]")
        metric, channel, where, readout, value, step = item
        yield (
            "metrics",
            {
                "run_id": place["run_id"],
                "metric": _text(metric, "metric"),
                "channel": _text(channel, "channel"),
                "slice": _text(where, "slice"),
                "readout": _text(readout, "readout"),
                "step": _whole(step, "step"),
                "value": _number(value, "value"),
                "time_us": place["time_us"],
            },
        )


def _wall_time(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    for phase, seconds in line.table("phases").items():
        yield "wall_times", _only(place, "run_id", "position") | {"phase": phase, "seconds": _number(seconds, phase)}


def _artifact(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    row = _only(place, "run_id", "position", "time_us") | {name: line.text(name) for name in ("name", "digest")}
    yield "artifacts", row | {"num_bytes": line.whole("bytes")}


def _event(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    yield "events", event_row(place, line.text("what"), line.text("detail"))


def _finished(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    del line
    yield "events", event_row(place, "finished", "")


def _crashed(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    yield "tags", {"run_id": place["run_id"], "taxonomy": "outcome", "value": "crashed-early"}
    yield "events", event_row(place, "crashed", line.text("reason"), line.whole("step"))


def _cache(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    row = _only(place, "time_us") | {name: line.text(name) for name in ("cache_id", "val_drives_digest")}
    row |= {name: line.whole(name) for name in ("num_train", "num_val")}
    yield "caches", row | {"identity_json": canonical_json(line.table("identity"))}


def _seal(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    rule, digest = Fields(line.table("rule")), {"rule_digest": line.text("digest")}
    primary = Fields(rule.table("primary"))
    if digest_json(line.table("rule")) != digest["rule_digest"]:
        raise BadLine(f"the rule's digest is {digest_json(line.table('rule'))}, the seal says {digest['rule_digest']}")
    yield (
        "rules",
        digest
        | {"name": rule.text("name"), "rule_json": canonical_json(line.table("rule")), "time_us": place["time_us"]}
        | {name: primary.text(name) for name in ("metric", "channel", "slice", "readout")},
    )
    for position, item in enumerate(rule.items("stages"), start=1):
        stage = Fields(item)
        yield (
            "rule_stages",
            digest
            | {"position": position, "name": stage.text("name"), "statistic": stage.text("statistic")}
            | {"num_seeds": stage.whole("num_seeds"), "bar": stage.number("bar")}
            | {"first_seed": stage.whole("first_seed"), "bar_unit": stage.text("bar_unit")},
        )
    for position, item in enumerate(rule.items("guardrails"), start=1):
        guard = Fields(item)
        keys = {name: guard.text(name) for name in ("metric", "channel", "slice", "readout")}
        yield "rule_guardrails", digest | {"position": position} | keys | {"margin": guard.number("margin")}
    for role in ("panel", "judged"):
        for position, seed in enumerate(rule.items(f"{role}_seeds"), start=1):
            yield "rule_seeds", digest | {"role": role, "position": position, "seed": _whole(seed, "seed")}


RUN_KINDS: dict[str, Callable[[Fields, Row], Iterator[tuple[str, Row]]]] = {
    "registered": _registered,
    "started": _started,
    "metrics": _metrics,
    "wall_time": _wall_time,
    "artifact": _artifact,
    "event": _event,
    "finished": _finished,
    "crashed": _crashed,
}
STUDY_KINDS: dict[str, Callable[[Fields, Row], Iterator[tuple[str, Row]]]] = {"cache": _cache, "seal": _seal}


def _only(place: Row, *columns: str) -> Row:
    return {column: place[column] for column in columns}


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadLine(f"{name} is {value!r}, expected a text")
    return value


def _whole(value: Any, name: str) -> int:
    if type(value) is not int or abs(value) > MAX_WHOLE:
        raise BadLine(f"{name} is {value!r}, expected a whole number")
    return value


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not abs(value) <= MAX_NUMBER:
        raise BadLine(f"{name} is {value!r}, expected a finite number")
    return float(value)
