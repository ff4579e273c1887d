"""Finished policies scored again, without training: with more draws, another solver, other readouts, as an ensemble.

What is scored under another evaluation than the run was gets a folder, a journal and an id of its own: those that a run
trained and evaluated that way would have, so that a rule sealed for that evaluation judges it like any other. Under the
run's own evaluation, what the run lacks is added to it.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.cache.attributes import read_attributes
from flowlab.cache.cache import open_cache
from flowlab.core.digest import canonical_json, digest_json
from flowlab.core.errors import BusyError, CacheMismatchError, DivergedError, PolicyError, StudyError
from flowlab.core.plugin_code import source_digest
from flowlab.core.plugins import Readout
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import PLUGIN_BOUND, SCORED_FROM
from flowlab.evaluate.definitions import MetricDefinitions, define_metrics
from flowlab.evaluate.draw_bank import DrawBank
from flowlab.evaluate.frames import ValidationFrames, cover
from flowlab.evaluate.guarded import Guarded, looks_at_truth
from flowlab.evaluate.readouts import MeanFirst, build_readout
from flowlab.evaluate.scorer import Scorer
from flowlab.evaluate.stats import space_from_json
from flowlab.journal.journal import LAST_WORDS, RUN_JOURNAL, last_word, read_lines
from flowlab.lab.banks import artifacts, bank_name, drawn, kept_draws, of_draws
from flowlab.lab.checkpoints import is_finished, open_checkpoint, proved_stats
from flowlab.lab.environment import describe_environment, git_revision
from flowlab.lab.ground import Base, Ground, name_recipe, open_ground, validation_frames
from flowlab.lab.late_rows import add_rows
from flowlab.lab.plan import name_run, replicate_id
from flowlab.lab.registered import read_registered, sources_of
from flowlab.lab.run_dir import RunDir
from flowlab.study.ranker import RANKER
from flowlab.study.recipe import EvaluationSettings, Recipe
from flowlab.study.selection import SelectionSettings, selection_for
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
class Bench:
    """Where policies of a study are scored: under one evaluation, on its validation frames."""

    study: Study
    ground: Ground
    device: torch.device
    readouts: tuple[str, ...] = ()  # those asked for by name; all that a run is scored with for none
    _frames: dict[str, ValidationFrames] = field(default_factory=dict)
    _scorers: dict[tuple[str, str], Scorer] = field(default_factory=dict)
    _row_names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._frames[self.ground.frames_cache.cache_id] = validation_frames(self.ground.frames_cache)

    @property
    def settings(self) -> EvaluationSettings:
        return self.study.control.evaluation

    @property
    def frames(self) -> ValidationFrames:
        """The study's validation frames, without conditions."""
        return self._frames[self.ground.frames_cache.cache_id]

    @cached_property
    def selection(self) -> SelectionSettings | None:
        return selection_for(self.study.file.selection, self.frames.channels)

    @cached_property
    def definitions(self) -> MetricDefinitions:
        return define_metrics(self.study.file.slices, self.frames.channels, self.ground.thresholds)

    def frames_of(self, cache_id: str) -> ValidationFrames:
        """The validation frames as a run of that cache sees them: with its history, and without conditions."""
        if cache_id not in self._frames:
            cache = open_cache(self.study.caches / f"{cache_id}.zarr", expect_id=cache_id)
            own = validation_frames(cache)
            self._frames[cache_id] = own.take(cover(self.frames, own))
        return self._frames[cache_id]

    def scorer(self, cache_id: str, space: dict[str, Any]) -> Scorer:
        """Scores draws of policies of that cache and action space; what it knows of the frames is found out once."""
        key = (cache_id, canonical_json(space))
        if key not in self._scorers:
            frames = self.frames_of(cache_id)
            made = Scorer(frames, self.definitions, space_from_json(space), self.settings, self.selection)
            self._scorers[key] = made
        return self._scorers[key]

    @cached_property
    def named(self) -> dict[str, Readout]:
        """The readouts that were asked for. Raises StudyError for one that needs more draws than there are."""
        built = {name: build_readout(name, self.selection, self.settings.clip) for name in self.readouts}
        for readout in built.values():
            if isinstance(readout, MeanFirst) and readout.num > self.settings.draws:
                raise StudyError(
                    f"readout {readout.name!r} is the mean of {readout.num} draws, and there are "
                    f"{self.settings.draws}. Give --draws {readout.num}, or a smaller one"
                )
        return built

    @property
    def asks_plugins(self) -> bool:
        """Whether a readout of somebody else's was asked for: it may look at conditions."""
        return any(isinstance(readout, Guarded) for readout in self.named.values())

    def rows(
        self, scorer: Scorer, draws: NDArray[np.float32], frames: ValidationFrames | None = None
    ) -> list[MetricRow]:
        """The metric rows of raw draws (N, K, H, A). Raises DivergedError for draws that are not finite.

        `frames`: the scorer's, with their conditions, for readouts of somebody else's.
        """
        if not self.readouts:
            return scorer.rows(draws)
        seen, rows = frames or scorer.frames, []
        for given, readout in self.named.items():
            if given not in self._row_names:
                self._row_names[given] = row_name(given, readout, looks_at_truth(readout, draws, seen))
            rows += scorer.rows_of_chunk(self._row_names[given], readout(draws, seen))
        return rows

    def baseline_rows(self, scorer: Scorer) -> list[MetricRow]:
        train_action = self.ground.frames_cache.split("train", variants=()).action
        return scorer.baseline_rows(train_action.numpy())


@dataclass(frozen=True)
class Source:
    """A finished run whose policy is scored: what it registered, and its recipe under the new evaluation."""

    run_id: str
    record: dict[str, Any]
    recipe: Recipe
    recipe_digest: str
    control_digest: str


def open_bench(
    study: Study,
    changes: Mapping[str, Any],
    device: torch.device,
    readouts: Sequence[str] = (),
    progress: Progress = SILENT,
) -> Bench:
    """The study's own way to evaluate, with `changes` to the settings of [control.evaluation].

    Raises StudyError for settings that cannot be, UnknownNameError for a readout that there is not.
    """
    for name in readouts:
        if name.startswith(RANKER):
            raise StudyError(f"readout {name!r} is each run's own ranker's. Give: flowlab ranker evaluate")
    other = study.evaluated(changes)
    bench = Bench(other, open_ground(other, (), None, progress), device, tuple(readouts))
    if bench.named:  # so that one that there is not is told before anything is drawn
        progress.say(f"read out by {', '.join(readout.name for readout in bench.named.values())}")
    return bench


def row_name(given: str, readout: Readout, is_a_bound: bool) -> str:
    """The name of a readout's rows: its own, and for a plug-in the digest of its code, so that no two share rows.

    A plug-in that looks at the truth has that said too.
    """
    if not isinstance(readout, Guarded):
        return readout.name
    return f"{readout.name}@{source_digest('readouts', given)[:8]}{PLUGIN_BOUND if is_a_bound else ''}"


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
    clouds, drawn = [], 0
    for source in sources:
        bank, is_new = _draws(bench, source, progress)
        scorer = bench.scorer(source.record["cache_id"], bank.told["action_space"])
        clouds.append(scorer.raw(bank.model))
        drawn += is_new
    members = [{"run_id": source.run_id, "policy": _policy_digest(bench.study, source)} for source in sources]
    evaluation = bench.ground.base.evaluation | {ENSEMBLE: members}
    first = sources[0]
    name = digest_json(members)
    record = _record(bench, first) | {
        "run_id": f"{ENSEMBLE}-{digest_json(evaluation)[:8]}",
        "lever": ENSEMBLE,
        "recipe_digest": name,
        "control_digest": digest_json({ENSEMBLE: first.control_digest}),
        "evaluation": evaluation,
        "evaluation_id": digest_json(evaluation),
        "replicate": 0,
        "hypothesis": "",
        "tags": [f"{SCORED_FROM}:{source.run_id}" for source in sources],
    }
    rows = bench.rows(scorer, np.concatenate(clouds, axis=1), _seen(bench, first))
    num_new = _write(bench, record, first, rows, [])
    return Scored(record["run_id"], tuple(run_ids), record["evaluation_id"], rows, num_new, drawn)


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
        run_id, num_new = record["run_id"], _write(bench, record, source, rows, bench.baseline_rows(scorer))
    return Scored(run_id, (source.run_id,), base.evaluation_id, rows, num_new, int(is_new))


def _source(bench: Bench, run_id: str) -> Source:
    """What is to be scored. Raises CacheMismatchError for a policy that was trained on drives that validate here."""
    study, ground = bench.study, bench.ground
    folder = study.runs / run_id
    record = read_registered(folder)
    if record is None or not is_finished(folder):
        raise PolicyError(f"run {run_id} has not finished, so it has no policy to score. Look: flowlab status")
    tables = read_recorded(record["recipe"])
    recorded = Recipe.model_validate({name: tables[name] for name in Recipe.model_fields})
    recipe = recorded.model_copy(update={"evaluation": bench.settings})
    if record["evaluation"].get("frames") != ground.base.evaluation["frames"]:
        _require_unseen(bench, run_id, record["cache_id"])
    if record["evaluation_id"] == ground.base.evaluation_id:
        return Source(run_id, record, recipe, record["recipe_digest"], record["control_digest"])
    stats = proved_stats(study, recorded, record)
    as_then = study.control.model_copy(update={"evaluation": recorded.evaluation})
    is_of_base = ground.control.recipe_digest(as_then) == record["control_digest"]
    control_digest = (
        ground.base.control_digest
        if is_of_base
        else digest_json({"control": record["control_digest"], "evaluation": ground.base.evaluation_id})
    )
    return Source(run_id, record, recipe, name_recipe(recipe, record["cache_id"], stats.digest()), control_digest)


def _require_unseen(bench: Bench, run_id: str, cache_id: str) -> None:
    """Raises unless the policy was trained on none of the drives that validate here, by their content."""
    ours = bench.ground.frames_cache.attributes["identity"]
    theirs = read_attributes(bench.study.caches / f"{cache_id}.zarr")["identity"]
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
    name = name_run(bench.study.runs, told["study"], told["lever"], told["seed"], source.recipe_digest, base)
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
