"""Brings runs of another tracker into a study: a journal each, which ingestion then reads like any other."""

import math
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flowlab.core.digest import digest_json
from flowlab.core.errors import LedgerError
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import FINAL_STEP
from flowlab.interop.cells import listed
from flowlab.interop.foreign import FINISHED, Foreign, Points
from flowlab.interop.imported import CACHE, ImportedRun, name_runs
from flowlab.interop.metric_map import MetricMap
from flowlab.journal.journal import RUN_JOURNAL, read_journal
from flowlab.journal.lines import RunJournal

ROWS_PER_LINE = 2000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WHEN_AND_WHENCE = {"time_us", "origin"}  # may differ when a run is imported again, from a file that was renamed


@dataclass
class Imported:
    """What an import did. `notes` has one sentence for each thing that was left out or had to be decided."""

    added: list[ImportedRun] = field(default_factory=list)
    known: list[ImportedRun] = field(default_factory=list)  # were imported before, with the same lines
    num_values: dict[str, int] = field(default_factory=dict)  # rows by run
    notes: list[str] = field(default_factory=list)


def import_runs(
    foreign: Foreign,
    runs_dir: Path,
    study: str,
    control: str,
    metrics: MetricMap,
    ignore: Collection[str] = (),
    progress: Progress = SILENT,
) -> Imported:
    """Write the journals of those runs of `foreign` that have ended and are not below `runs_dir` yet.

    Each run is there whole or not at all, and none is if anything is wrong. Raises LedgerError for a run that was
    imported before and says something else now, and as `name_runs` and `MetricMap.require_fits` do.
    """
    runs, notes = name_runs(foreign, control, ignore)
    metrics = metrics.knowing(foreign.names)
    metrics.require_fits(sorted({key for run in runs for key in run.foreign.keys}))
    done = Imported(notes=notes)
    left_out: Counter[tuple[str, str]] = Counter()
    runs_dir.mkdir(parents=True, exist_ok=True)
    partial = runs_dir / f".import.{os.getpid()}.partial"  # ingestion looks one folder deep
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with progress.task(f"import runs of {foreign.experiment}", len(runs), "runs") as task:
            for run in runs:
                points = run.foreign.read()
                done.num_values[run.run_id] = _write(partial, run, points, study, metrics, left_out)
                task.advance()
        for run in runs:
            _require_same(runs_dir, partial, run)
        for run in runs:
            (done.added if _move(partial / run.run_id, runs_dir / run.run_id) else done.known).append(run)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    notes += _told(left_out)
    return done


def _write(
    folder: Path, run: ImportedRun, points: Points, study: str, metrics: MetricMap, left_out: Counter[tuple[str, str]]
) -> int:
    """How many metric rows the journal of the run got."""
    left_out += points.left_out
    rows = list(_rows(run, points, metrics, left_out))
    last = max((step for at in points.values.values() for step in at), default=0)
    foreign = run.foreign
    with RunJournal.of(folder, run.run_id) as journal:
        journal.registered(
            run_id=run.run_id,
            study=study,
            lever=run.lever,
            seed=run.seed,
            replicate=run.replicate,
            recipe=run.recipe,
            recipe_digest=run.recipe_digest,
            control_digest=run.control_digest,
            cache_id=CACHE,
            evaluation_id=digest_json(run.evaluation),
            evaluation=run.evaluation,
            changed_keys=run.changed_keys,
            origin=run.origin,
            tags=list(foreign.tags),
        )
        journal.event("imported", _history(run))
        for begin in range(0, len(rows), ROWS_PER_LINE):
            journal.metrics(rows[begin : begin + ROWS_PER_LINE])
        if foreign.status == FINISHED:
            journal.finished()
        else:
            journal.crashed(reason=f"{foreign.said}, as {run.origin.partition(':')[0]} has it", step=last)
    return len(rows)


def _rows(
    run: ImportedRun, points: Points, metrics: MetricMap, left_out: Counter[tuple[str, str]]
) -> Iterator[MetricRow]:
    """The finite values at their steps; then, of a run that finished, the last value of each key once more."""
    finals = []
    for key, at in sorted(points.values.items()):
        name = metrics.name(key)
        rows = [name.row(value, step) for step, value in at.items()]
        finite = [row for row in rows if math.isfinite(row.value)]
        if len(finite) < len(rows):
            left_out[key, "that are NaN or infinite"] += len(rows) - len(finite)
        if not metrics.is_final(key):
            yield from finite
        if run.foreign.status != FINISHED or not (rows or key in points.last):
            continue
        last = points.last[key] if key in points.last else rows[-1].value
        if last is None:
            left_out[key, "that would be final, where a later one cannot be read"] += 1
        elif not math.isfinite(last):
            left_out[key, "that would be final, where the last one is NaN or infinite"] += 1
        else:
            finals.append(name.row(last, FINAL_STEP))
    yield from finals


def _history(run: ImportedRun) -> str:
    foreign = run.foreign
    told = [f"{run.origin.partition(':')[0]} run {foreign.run_id}, {foreign.name!r}", foreign.said]
    for what, time_us in (("started", foreign.started_us), ("ended", foreign.ended_us)):
        if time_us is not None:
            told.append(f"{what} {(EPOCH + timedelta(microseconds=time_us)).isoformat(timespec='seconds')}")
    return "; ".join(told)


def _require_same(runs_dir: Path, partial: Path, run: ImportedRun) -> None:
    """Raises LedgerError if the run is there already and its journal is not the one just written."""
    there = runs_dir / run.run_id / RUN_JOURNAL
    if there.exists() and (said := _said(there)) != (says := _said(partial / run.run_id / RUN_JOURNAL)):
        seeds = [told["seed"] for lines in (said, says) for told in lines[:1] if "seed" in told]
        other = f" (under seed {seeds[1]}, and {seeds[0]} then)" if len(set(seeds)) > 1 else ""
        raise LedgerError(
            f"{run.run_id} was imported before, and says something else now{other}: it was imported with other options "
            f"(--map, --control, --lever-from, --seed-from, --ignore) or by another flowlab, or "
            f"{run.origin.partition('#')[0]} has changed. Journals are never rewritten: give the options of then, or "
            f"import into another study. Nothing was imported."
        )


def _said(path: Path) -> list[dict[str, Any]]:
    lines, _ = read_journal(path)
    return [{name: value for name, value in line.items() if name not in WHEN_AND_WHENCE} for line in lines]


def _move(made: Path, folder: Path) -> bool:
    """Whether the run was not there before."""
    if folder.exists():
        return False
    made.rename(folder)
    return True


def _told(left_out: Counter[tuple[str, str]]) -> list[str]:
    """One sentence a reason, with the keys and how often."""
    reasons: dict[str, list[str]] = {}
    for (key, reason), count in sorted(left_out.items()):
        reasons.setdefault(reason, []).append(f"{listed([key])} ({count})")
    return [f"values {reason}, left out: {listed(keys)}" for reason, keys in reasons.items()]
