"""Finished runs brought back with all that they were trained from, to be scored, asked and looked at again.

Nothing here writes. What a run says it was trained from is proved: the cache by its identity and digests, the fitted
stats by the digest of the recipe that the run registered.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.cache.cache import Cache, ResidentSplit, open_cache
from flowlab.cache.places import find_caches
from flowlab.core.digest import digest_files
from flowlab.core.errors import CacheMismatchError, FlowlabError, MissingError, StoreError, unknown_name
from flowlab.evaluate.frames import ValidationFrames, cover, read_frames
from flowlab.evaluate.stats import Stats, fit_stats, load_stats
from flowlab.journal.journal import RUN_JOURNAL, last_word
from flowlab.lab.copies import bring_files, bring_journals
from flowlab.lab.ground import fitted_by, name_recipe, stats_file
from flowlab.lab.policies import KeptPolicy, load_policy_of, policy_path
from flowlab.lab.registered import read_registered, source_of
from flowlab.policy.action_space import ActionSpace
from flowlab.policy.build import seen_tokens
from flowlab.study.recipe import EvaluationSettings, Recipe
from flowlab.study.selection import SelectionSettings, selection_for
from flowlab.study.study import Study
from flowlab.study.versions import read_recorded
from flowlab.train.checkpoint import POLICY_FILE


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run's policy after `policy.step` steps, with the cache and the stats that it was trained from.

    Of a scoring, the policy is its source's, and the record, with the way to evaluate, its own.
    """

    study: Study
    record: dict[str, Any]  # what the run registered: recipe, lever, seed, digests, evaluation
    policy: KeptPolicy
    cache: Cache
    stats: Stats
    device: torch.device

    @property
    def run_id(self) -> str:
        return self.record["run_id"]

    @property
    def folder(self) -> Path:
        """The folder of the run that trained the policy: of a scoring, that of its source."""
        return self.study.runs / self.policy.facts.run_id

    @cached_property
    def policy_digest(self) -> str:
        """16 hex digits over the policy's file."""
        step = self.policy.step
        return digest_files([policy_path(self.folder, None if step == self.recipe.train.steps else step)])

    @property
    def whose(self) -> dict[str, Any]:
        """Whose policy it is, for what is made from it."""
        told = {name: self.record[name] for name in ("study", "lever", "seed")}
        return told | {
            "run_id": self.policy.facts.run_id,
            "step": self.policy.step,
            "policy_digest": self.policy_digest,
        }

    @property
    def recipe(self) -> Recipe:
        """As the policy was trained."""
        return self.policy.facts.recipe

    @property
    def evaluation(self) -> EvaluationSettings:
        """As the run's numbers were made."""
        tables = read_recorded(self.record["recipe"])
        return EvaluationSettings.model_validate(tables["evaluation"])

    @property
    def space(self) -> ActionSpace:
        """Between raw actions and what the decoder sees."""
        return self.stats.space

    @property
    def selection(self) -> SelectionSettings | None:
        """How its draws are selected by: as the run's numbers were made."""
        told = self.record["evaluation"].get("selection")
        return selection_for(told and SelectionSettings.model_validate(told), self.cache.channels)

    @cached_property
    def tokens(self) -> list[int]:
        """Which of the condition's tokens the decoder sees."""
        return seen_tokens(self.recipe.decoder, self.cache.spec)[1]

    def split(self, side: str, variants: Sequence[str] = ("normal",)) -> ResidentSplit:
        """One side of the run's own cache, on its device."""
        return self.cache.split(side, self.device, variants)

    def frames(self, side: str = "val", like: ValidationFrames | None = None) -> ValidationFrames:
        """Windows with their condition as the decoder sees it: all of `side`, or those that are `like` other frames.

        Without `like`, the validation frames are those that the run was scored on. Raises CacheMismatchError if the
        run's cache lacks some of them.
        """
        split = self.split(side)
        frames = read_frames(split, self.cache.channels, tokens=self.tokens)
        if like is None:
            if side != "val" or frames.digest() == self.record["evaluation"].get("frames"):
                return frames
            like = self._recorded_frames()
        return frames.take(self._rows(frames, like))

    def _rows(self, frames: ValidationFrames, like: ValidationFrames) -> NDArray[np.int64]:
        try:
            return cover(like, frames)
        except CacheMismatchError as error:
            raise CacheMismatchError(f"run {self.run_id}: {error}") from None

    def _recorded_frames(self) -> ValidationFrames:
        """The study's validation frames when the run was scored, without conditions, from whichever cache has them."""
        wanted = self.record["evaluation"].get("frames")
        for cache in _caches(self.study):
            frames = read_frames(cache.split("val", variants=()), cache.channels)
            if frames.digest() == wanted:
                return frames
        raise MissingError(
            f"no cache in {self.study.cache_home} has the validation frames that run {self.run_id} was scored on "
            f"({wanted}). Build it anew: flowlab cache build"
        )


def find_runs(study: Study, names: Sequence[str], lever: str | None = None, everything: bool = False) -> list[str]:
    """The ids of finished runs: those whose ids begin with `names`, all of a lever's, or all that kept a policy.

    A scoring stands for the run that it scores. Raises UnknownNameError for a name that no run or several runs begin
    with, MissingError where there is no such run.
    """
    there = bring_journals(study)
    records = {folder.name: record for folder, record in _registered(study)}
    chosen = [_find_one(name, records) for name in names]
    if everything or lever is not None:
        asked = [run_id for run_id, record in records.items() if everything or record["lever"] == lever]
        chosen += [run_id for run_id in asked if is_finished(study.runs / run_id, run_id in there)]
    if not chosen:
        levers = sorted({record["lever"] for record in records.values()})
        what = f"lever {lever!r} has" if lever is not None else "the study has"
        raise MissingError(
            f"{what} no finished run here; there are runs of {', '.join(levers) or 'nothing'}. Train some: "
            f"flowlab run --lever {lever or 'NAME'} --seeds A,B"
        )
    return list(dict.fromkeys(chosen))


def is_finished(folder: Path, is_copied: bool = False) -> bool:
    """Whether the run of this folder has finished, and its policy is there, if not in the folder then in a copy."""
    return (is_copied or (folder / POLICY_FILE).is_file()) and last_word(folder / RUN_JOURNAL) == "finished"


def _find_one(name: str, records: dict[str, dict[str, Any]]) -> str:
    """The run that one name means. Scorings begin like their source: several of one policy mean that one."""
    if name in records:
        return source_of(records[name])
    found = [run_id for run_id in records if run_id.startswith(name)]
    sources = sorted({source_of(records[run_id]) for run_id in found})
    if len(sources) == 1:
        return sources[0]
    if sources:
        raise unknown_name("run", name, sources, "runs/, where several begin so")
    raise unknown_name("run", name, records, "runs/")


def _registered(study: Study) -> Iterator[tuple[Path, dict[str, Any]]]:
    for journal in sorted(study.runs.glob(f"*/{RUN_JOURNAL}")):
        record = read_registered(journal.parent)
        if record is not None and record.get("run_id") == journal.parent.name:
            yield journal.parent, record


def open_checkpoint(
    study: Study, run_id: str, step: int | None = None, device: torch.device | None = None
) -> Checkpoint:
    """The last policy of a run, or the one that it kept after `step` steps.

    Raises MissingError for a policy, a cache or stats that are not there, PolicyError for a policy that is not the one
    the run's journal names, CacheMismatchError for a cache or stats that are not what the run was trained from.
    """
    record = read_registered(study.runs / run_id)
    if record is None and run_id in bring_journals(study):
        record = read_registered(study.runs / run_id)
    if record is None:
        raise unknown_name("run", run_id, [folder.name for folder, _ in _registered(study)], "runs/")
    trained_id = source_of(record)
    trained = record if trained_id == run_id else read_registered(study.runs / trained_id)
    if trained is None:
        raise MissingError(f"run {run_id} is a scoring of {trained_id}, which is not in {study.runs}. Restore it")
    bring_files(study, trained_id)
    policy = load_policy_of(study.runs / trained_id, step, device or torch.device("cpu"))
    cache = open_cache(study.cache_home / f"{record['cache_id']}.zarr", expect_id=record["cache_id"])
    proved = proved_stats(study, policy.facts.recipe, trained)
    return Checkpoint(study, record, policy, cache, proved.stats, device or torch.device("cpu"))


class Proved(NamedTuple):
    """The stats that a run was trained with, and the digest of those that its name names: the control's, if it had
    stats of its own kind (lab/ground.py)."""

    stats: Stats
    named: str


def proved_stats(study: Study, recipe: Recipe, record: dict[str, Any]) -> Proved:
    """The stats of the train split, the run's own cache's or another's, whose digest makes the run's recipe digest."""
    own = record["cache_id"]
    for cache in sorted(_caches(study), key=lambda cache: cache.cache_id != own):
        stats = _stats(study, cache, recipe)
        if stats is None:
            continue
        for named in _named_by(study, cache, stats):
            if name_recipe(recipe, own, named) == record["recipe_digest"]:
                return Proved(stats, named)
    raise CacheMismatchError(
        f"run {record['run_id']} was trained with fitted stats, or a plug-in, that are not here: none of the caches' "
        f"train splits gives its recipe digest {record['recipe_digest']}. Restore the cache, or train it once more: "
        f"flowlab run --again"
    )


def _named_by(study: Study, cache: Cache, own: Stats) -> Iterator[str]:
    """The digests of that cache's stats which the name of a run may name: its own, a control's, any that are kept."""
    yield own.digest()
    for control in {fitted_by(cache, one): one for one in (study.control, study.file.control)}.values():
        if stats := _stats(study, cache, control):
            yield stats.digest()
    for path in sorted((study.caches / "stats").glob(f"{cache.cache_id}-*.json")):
        if kept := load_stats(path):
            yield kept.digest()


def _stats(study: Study, cache: Cache, recipe: Recipe) -> Stats | None:
    """The stats of that cache for a recipe, read or fitted; None for one of other channels."""
    stats = load_stats(stats_file(study, cache, recipe))
    if stats is None:
        with suppress(CacheMismatchError):
            stats = fit_stats(*fitted_by(cache, recipe), cache.channels, cache.split("train", variants=()).action)
    return stats


def _caches(study: Study) -> Iterator[Cache]:
    """The caches in the study's folder that can be opened."""
    for path in find_caches(study.cache_home):
        try:
            yield open_cache(path, path.stem)
        except StoreError:
            raise
        except FlowlabError:
            continue  # `flowlab cache verify` tells
