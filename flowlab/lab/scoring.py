"""Finished policies scored again, without training: with more draws, another solver, other readouts, as an ensemble.

What is scored under another evaluation than the run was gets a folder, a journal and an id of its own: those that a run
trained and evaluated that way would have, so that a rule sealed for that evaluation judges it like any other. Under the
run's own evaluation, what the run lacks is added to it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from flowlab.cache.attributes import read_attributes
from flowlab.core.digest import digest_json
from flowlab.core.errors import BusyError, CacheMismatchError, DivergedError, PolicyError, StudyError
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import SCORED_FROM
from flowlab.evaluate.draw_bank import DrawBank
from flowlab.evaluate.frames import ValidationFrames
from flowlab.journal.journal import LAST_WORDS, RUN_JOURNAL, last_word, read_lines
from flowlab.lab.banks import bank_name, drawn, kept_draws, of_draws
from flowlab.lab.bench import Bench
from flowlab.lab.checkpoints import is_finished, open_checkpoint, proved_stats
from flowlab.lab.copies import bring_files
from flowlab.lab.environment import describe_environment, git_revision
from flowlab.lab.ground import Base, name_recipe
from flowlab.lab.late_rows import add_rows
from flowlab.lab.plan import name_run, replicate_id
from flowlab.lab.registered import artifacts, purpose_of, read_registered, sources_of
from flowlab.lab.run_dir import RunDir
from flowlab.study.recipe import Recipe
from flowlab.study.study import Study
from flowlab.study.versions import read_recorded
from flowlab.train.checkpoint import POLICY_FILE

ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Scored:
    """The numbers of one scoring: whose they are, of which runs' policies, and what was done for them."""

    run_id: str
    sources: tuple[str, ...]
    evaluation_id: str
    rows: list[MetricRow] = field(repr=False)
    num_new: int  # rows that were not on record
    num_drawn: int  # policies that draws were made from; the others' were kept


@dataclass(frozen=True)
class Source:
    """A finished run whose policy is scored: what it registered, and its recipe under the new evaluation."""

    run_id: str
    record: dict[str, Any]
    recipe: Recipe
    recipe_digest: str
    control_digest: str


def score_runs(bench: Bench, run_ids: Sequence[str], progress: Progress = SILENT) -> list[Scored]:
    """Each run's policy scored on the bench; the numbers are in journals once this returns, ready to be taken in.

    Raises MissingError, PolicyError or CacheMismatchError for a run that cannot be scored here: those before it are.
    """
    scored = []
    with progress.task("score", len(run_ids), "runs") as task:
        for run_id in run_ids:
            scored.append(_score_run(bench, _source(bench, run_id), progress))
            task.advance()
    return scored


def score_ensemble(bench: Bench, run_ids: Sequence[str], progress: Progress = SILENT) -> Scored:
    """Several runs' policies as one: their draws side by side, K of each, are one cloud of draws.

    It is a scoring of its own kind of evaluation, so that no rule ever judges it.
    """
    if len(run_ids) < 2:
        raise StudyError(f"an ensemble is of two runs at least, got {len(run_ids)}. Give --ensemble RUN,RUN")
    sources = [_source(bench, run_id) for run_id in run_ids]
    clouds, num_drawn = [], 0
    for source in sources:
        bank, is_new = _draws(bench, source, progress)
        scorer = bench.scorer(source.record["cache_id"], bank.told["action_space"])
        clouds.append(scorer.raw(bank.model))
        num_drawn += is_new
    members = [{"run_id": source.run_id, "policy": _policy_digest(bench.study, source)} for source in sources]
    evaluation = bench.ground.base.evaluation | {ENSEMBLE: members}
    first = sources[0]
    record = _record(bench, first) | {
        "run_id": f"{ENSEMBLE}-{digest_json(evaluation)[:8]}",
        "lever": ENSEMBLE,
        "recipe_digest": digest_json(members),
        "control_digest": digest_json({ENSEMBLE: first.control_digest}),
        "evaluation": evaluation,
        "evaluation_id": digest_json(evaluation),
        "replicate": 0,
        "hypothesis": "",
        "tags": [f"{SCORED_FROM}:{source.run_id}" for source in sources],
    }
    rows = bench.rows(scorer, np.concatenate(clouds, axis=1), _seen(bench, first))
    num_new = _write(bench, record, first, rows, [])
    return Scored(record["run_id"], tuple(run_ids), record["evaluation_id"], rows, num_new, num_drawn)


def _score_run(bench: Bench, source: Source, progress: Progress) -> Scored:
    bank, is_new = _draws(bench, source, progress)
    scorer = bench.scorer(source.record["cache_id"], bank.told["action_space"])
    try:
        rows = bench.rows(scorer, scorer.raw(bank.model), _seen(bench, source))
    except DivergedError as error:
        raise DivergedError(f"run {source.run_id}: {error}") from None
    base = bench.ground.base
    if source.record["evaluation_id"] == base.evaluation_id:
        run_id, num_new = source.run_id, add_rows(bench.study, source.run_id, rows)
    else:
        record = _record(bench, source)
        run_id, num_new = (
            record["run_id"],
            _write(bench, record, source, rows, scorer.baseline_rows(bench.train_action)),
        )
    return Scored(run_id, (source.run_id,), base.evaluation_id, rows, num_new, int(is_new))


def _source(bench: Bench, run_id: str) -> Source:
    """What is to be scored. Raises CacheMismatchError for a policy that was trained on drives that validate here."""
    study, ground = bench.study, bench.ground
    folder = study.runs / run_id
    record = read_registered(folder)
    bring_files(study, run_id)
    if record is None or not is_finished(folder):
        raise PolicyError(f"run {run_id} has not finished, so it has no policy to score. Look: flowlab status")
    tables = read_recorded(record["recipe"])
    recorded = Recipe.model_validate({name: tables[name] for name in Recipe.model_fields})
    recipe = recorded.model_copy(update={"evaluation": bench.settings})
    if record["evaluation"].get("frames") != ground.base.evaluation["frames"]:
        _require_unseen(bench, run_id, record["cache_id"])
    if record["evaluation_id"] == ground.base.evaluation_id:
        return Source(run_id, record, recipe, record["recipe_digest"], record["control_digest"])
    named = proved_stats(study, recorded, record).named
    as_then = study.control.model_copy(update={"evaluation": recorded.evaluation})
    is_of_base = ground.control.recipe_digest(as_then) == record["control_digest"]
    control_digest = (
        ground.base.control_digest
        if is_of_base
        else digest_json({"control": record["control_digest"], "evaluation": ground.base.evaluation_id})
    )
    return Source(run_id, record, recipe, name_recipe(recipe, record["cache_id"], named), control_digest)


def _require_unseen(bench: Bench, run_id: str, cache_id: str) -> None:
    """Raises unless the policy was trained on none of the drives that validate here, by their content."""
    ours = bench.ground.frames_cache.attributes["identity"]
    theirs = read_attributes(bench.study.cache_home / f"{cache_id}.zarr")["identity"]
    validating = {ours["manifest"][drive]: drive for drive in ours["split"]["val"]}
    for drive in theirs["split"]["train"]:
        if theirs["manifest"][drive] in validating:
            here = validating[theirs["manifest"][drive]]
            raise CacheMismatchError(
                f"run {run_id} was trained on drive {drive}, which validates in this study now, as {here}: its numbers "
                f"would be of what it has seen. Score runs that were trained without it, or restore the split"
            )


def _draws(bench: Bench, source: Source, progress: Progress) -> tuple[DrawBank, bool]:
    """The draws of a source on the bench's frames, and whether they had to be made: they are kept beside its own."""
    study, settings, frames = bench.study, bench.settings, bench.frames_of(source.record["cache_id"])
    folder = study.runs / source.run_id
    wanted = {"policy_digest": _policy_digest(study, source), "evaluation": of_draws(settings)}
    kept = kept_draws(folder, wanted, frames, progress)
    if kept is not None:
        return kept, False
    checkpoint = open_checkpoint(study, source.run_id, device=bench.device)
    seen = checkpoint.frames(like=frames)
    bank = drawn(checkpoint, settings, seen, progress)
    with RunDir(folder) as out:
        out.save_draws(bank, seen, bank_name(wanted, frames))
    return bank, True


def _seen(bench: Bench, source: Source) -> ValidationFrames | None:
    """The bench's frames with the conditions that the source's policy sees, where a readout may look at them."""
    if not bench.asks_plugins:
        return None
    checkpoint = open_checkpoint(bench.study, source.run_id, device=bench.device)
    return checkpoint.frames(like=bench.frames_of(source.record["cache_id"]))


def _policy_digest(study: Study, source: Source) -> str:
    """The digest of the policy that the run's journal names."""
    digest = artifacts(study.runs / source.run_id).get(POLICY_FILE)
    if digest is None:
        raise PolicyError(f"run {source.run_id} has no policy on record: an earlier flowlab trained it. Train it anew")
    return digest


def _record(bench: Bench, source: Source) -> dict[str, Any]:
    """What the scoring of a source registers as: a run of that recipe under the bench's evaluation."""
    told, base = source.record, Base(source.control_digest, bench.ground.base.evaluation)
    own = (told["study"], told["lever"], told["seed"], source.recipe_digest, base, purpose_of(told))
    name = name_run(bench.study.runs, *own)
    kept = {key: told[key] for key in ("study", "lever", "seed", "replicate", "cache_id", "changed_keys", "hypothesis")}
    return kept | {
        "run_id": replicate_id(name, told["replicate"]),
        "recipe": told["recipe"] | {"evaluation": source.recipe.to_json()["evaluation"]},
        "recipe_digest": source.recipe_digest,
        "control_digest": source.control_digest,
        "evaluation": base.evaluation,
        "evaluation_id": base.evaluation_id,
        "tags": [*told["tags"], f"{SCORED_FROM}:{source.run_id}"],
    }


def _write(
    bench: Bench, record: dict[str, Any], source: Source, rows: list[MetricRow], first_rows: list[MetricRow]
) -> int:
    """How many rows the scoring's journal did not have. A new one is written at once, whole or not at all.

    `first_rows`: what belongs to it besides, once. Its environment is the source's and, as one more attempt, this one.
    """
    study, run_id = bench.study, record["run_id"]
    if last_word(study.runs / run_id / RUN_JOURNAL) in LAST_WORDS:
        return add_rows(study, run_id, rows)
    with RunDir(study.runs / run_id) as out:
        begun = read_registered(out.path)
        if begun is not None and not sources_of(begun):
            raise BusyError(
                f"run {run_id} is being trained under this evaluation, or was stopped on the way. Let it finish: "
                f"flowlab run --lever {record['lever']} --seeds {record['seed']}"
            )
        out.scored(record, _attempts(bench, source), [*rows, *first_rows])
    return len(rows)


def _attempts(bench: Bench, source: Source) -> list[dict[str, Any]]:
    """Where the source was trained, attempt by attempt, and last where it is scored."""
    names = ("device", "cohort_size", "threads", "pid", "environment", "git_revision")
    lines = read_lines(bench.study.runs / source.run_id / RUN_JOURNAL)[0]
    trained = [{name: line.fields[name] for name in names} for line in lines if line.fields.get("kind") == "started"]
    here = {
        "device": str(bench.device),
        "cohort_size": 1,
        "threads": torch.get_num_threads(),
        "pid": os.getpid(),
        "environment": describe_environment(bench.device),
        "git_revision": git_revision(bench.study.root),
    }
    return [told | {"attempt": attempt} for attempt, told in enumerate([*trained, here])]
