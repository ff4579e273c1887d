"""Reads offline runs of W&B, without W&B: `wandb/offline-run-*/run-ID.wandb`. Written against wandb 0.31.

Of the records those of the run, its config, its history and its exit are read; field numbers are those of
wandb_internal.proto. A run that was killed has no exit: it counts as crashed, with what it logged until then.
"""

import json
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flowlab.core.errors import LedgerError
from flowlab.interop.cells import listed, text_of, whole_number
from flowlab.interop.faults import Faults
from flowlab.interop.foreign import CRASHED, FINISHED, LAST_US, flat
from flowlab.interop.wandb_records import HEADER, Field, fields_of, records_of
from flowlab.interop.wandb_run import WandbRun

ENDING = ".wandb"
HISTORY, CONFIG, RUN, EXIT = 2, 5, 17, 18  # of a record
ITEM, STEP = 1, 2  # of a history
UPDATE, REMOVE = 1, 2  # of a config
RUN_ID, PROJECT, RUN_CONFIG, GROUP, JOB_TYPE, DISPLAY_NAME, START_TIME = 1, 3, 4, 6, 7, 8, 17
KEY, NESTED_KEY, NONE, BOOLEAN, INTEGER, NUMBER, TEXT, JSON, VALUE_JSON = 1, 2, 3, 4, 5, 6, 7, 8, 16  # of an item
NO_EXIT = "no exit in its file"
LEVELS = 50  # of a value within a value; what is deeper is text


class _Offline(NamedTuple):
    """What one file says."""

    run_id: str
    project: str
    run: WandbRun


def read_offline(paths: Sequence[Path], notes: list[str]) -> tuple[str | None, dict[str, WandbRun]]:
    """The project of these files' runs, and the runs by id. Both empty without files.

    A file that says not even which run it is of, as one does that was killed at its start, is left out with a note.
    So is one of which most is damaged, or what stands before the first step. Raises LedgerError if most are such, or if
    they are of several projects.
    """
    faults = Faults("offline runs")
    runs: dict[str, WandbRun] = {}
    projects: dict[str, None] = {}
    for path in {path.resolve(): path for path in paths}.values():  # W&B keeps a link to the latest one beside them
        found = _read(path, faults, notes)
        if found is None:
            continue
        if found.run_id in runs:
            raise LedgerError(
                f"{path} is of run {listed([found.run_id])}, and so is a file before it: it was resumed, or the file "
                f"was copied. Give each run once."
            )
        runs[found.run_id] = found.run
        projects[found.project] = None
    notes += faults.notes(len({path.resolve() for path in paths}))
    if len(projects) > 1:
        raise LedgerError(
            f"these offline runs are of several projects: {listed(projects)}. Import one after the other."
        )
    killed = [run.name for run in runs.values() if run.said == NO_EXIT]
    if killed:
        notes.append(f"offline runs that have no end, killed or still running, taken as crashed: {listed(killed)}")
    return next(iter(projects), None), runs


def _read(path: Path, faults: Faults, notes: list[str]) -> _Offline | None:
    """What the file says; None, and a fault, if most of it is damaged, or the beginning, which has the config."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror}. Expected an offline run of W&B.") from None
    if not content.startswith(HEADER) and not HEADER.startswith(content):
        raise LedgerError(f"{path} is no offline run of W&B that flowlab reads: expected it to begin with {HEADER!r}.")
    run, run_id, project = WandbRun("", status=CRASHED, said=NO_EXIT), "", ""
    damaged: list[str] = []
    total, is_config_whole = 0, True
    for total, record in enumerate(records_of(content), 1):
        try:
            run_id, project = _add(run, record) or (run_id, project)
        except ValueError as error:
            damaged.append(f"record {total} is damaged ({error})")
            run.unsure.update(run.values)
            is_config_whole = is_config_whole and bool(run.values)
    if 2 * len(damaged) > total or not run_id or not is_config_whole:
        why = damaged[0] if damaged else "it has no whole record of the run that it is of"
        faults.add("damaged", path, f"{path}: {why}.")
        return None
    if damaged:
        notes.append(f"{len(damaged)} of {total} records of {path.name} left out: {damaged[0]}")
    run.params.pop("_wandb", None)
    run.name = run.name or run_id
    return _Offline(run_id, project, run)


def _add(run: WandbRun, record: bytes | None) -> tuple[str, str] | None:
    """Give the run what a record says; id and project if it says those. Raises ValueError for a damaged one."""
    if record is None:
        raise ValueError("its checksum differs")
    for kind, message in fields_of(record):
        if kind == RUN:
            return _add_run(run, list(fields_of(_bytes(message))))
        if kind == CONFIG:
            _add_config(run, fields_of(_bytes(message)))
        elif kind == HISTORY:
            _add_history(run, list(fields_of(_bytes(message))))
        elif kind == EXIT:
            code = next((_signed(value) for field, value in fields_of(_bytes(message)) if field == 1), 0)
            run.status, run.said = CRASHED if code else FINISHED, f"exit code {code}"
    return None


def _add_run(run: WandbRun, fields: list[Field]) -> tuple[str, str]:
    """Id and project of the run; its name, config and start are set."""
    texts = {field: text_of(value) for field, value in fields if isinstance(value, bytes)}
    for field, value in fields:
        if field == RUN_CONFIG:
            _add_config(run, fields_of(_bytes(value)))
        if field == START_TIME:
            seconds = next((_signed(part) for number, part in fields_of(_bytes(value)) if number == 1), 0)
            run.started_us = seconds * 10**6 if 0 < seconds * 10**6 <= LAST_US else None
    run.name = texts.get(DISPLAY_NAME, "")
    for name, field in (("group", GROUP), ("job_type", JOB_TYPE)):
        if field in texts:
            run.facts[name] = texts[field]
    return texts.get(RUN_ID, ""), texts.get(PROJECT, "")


def _add_config(run: WandbRun, fields: Iterator[Field]) -> None:
    for field, message in fields:
        if field not in (UPDATE, REMOVE):
            continue
        names, value = _item(_bytes(message))
        at = run.params
        for name in names[:-1]:
            if not isinstance(at.get(name), dict):
                at[name] = {}
            at = at[name]
        if field == UPDATE:
            at[names[-1]] = value
        else:
            at.pop(names[-1], None)


def _add_history(run: WandbRun, fields: list[Field]) -> None:
    """The numbers that were logged at one step. Raises ValueError where nobody can say which."""
    logged: dict[str, Any] = {}
    step: Any = None
    for field, value in fields:
        if field == ITEM:
            names, item = _item(_bytes(value))
            logged.update(flat({".".join(names): item}))
        elif field == STEP:
            step = next((_signed(part) for number, part in fields_of(_bytes(value)) if number == 1), 0)
    step = whole_number(logged.get("_step", step))
    if step is None or step < 0:
        raise ValueError("its step is no whole number from 0 on")
    time_s = logged.get("_timestamp")
    if isinstance(time_s, int | float) and 0 <= time_s * 10**6 <= LAST_US:
        run.ended_us = int(time_s * 10**6)
    media = tuple(key.removesuffix("_type") for key in logged if key.endswith("._type"))
    for key, value in logged.items():
        if key.startswith("_") or (key.startswith(media) and not key.endswith("._type")):
            continue
        number = _number(value)
        if number is None:
            run.left_out[key.removesuffix("._type"), "that are no numbers"] += 1
        else:
            run.values.setdefault(key, {})[step] = number
            run.unsure.discard(key)


def _item(message: bytes) -> tuple[list[str], Any]:
    """The names of an item, from the outermost to its own, and its value."""
    names: list[str] = []
    value: Any = None
    for field, content in fields_of(message):
        if field in (KEY, NESTED_KEY):
            names.append(text_of(_bytes(content)))
        elif field in (VALUE_JSON, JSON):
            value = _from_json(_bytes(content))
        elif field == TEXT:
            value = text_of(_bytes(content))
        elif field == NUMBER:
            (value,) = struct.unpack("<d", _bytes(content).ljust(8, b"\0")[:8])
        elif field in (BOOLEAN, INTEGER) and isinstance(content, int):
            value = bool(content) if field == BOOLEAN else (content >> 1) ^ -(content & 1)
    if not names:
        raise ValueError("an item has no name")
    return names, value


def _from_json(content: bytes) -> Any:
    """The value, its texts as `text_of`; as text what is no JSON that Python reads."""
    try:
        return _clean(json.loads(content), LEVELS)
    except (ValueError, RecursionError):
        return text_of(content)


def _clean(value: Any, levels: int) -> Any:
    if levels == 0:
        raise ValueError("too deep")
    if isinstance(value, dict):
        return {text_of(key): _clean(inner, levels - 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner, levels - 1) for inner in value]
    return text_of(value) if isinstance(value, str) else value


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where a message was expected")
    return value


def _signed(value: int | bytes) -> int:
    """A varint that may be below 0."""
    if isinstance(value, bytes):
        raise ValueError("bytes stand where a number was expected")
    return value - 2**64 if value >= 2**63 else value
