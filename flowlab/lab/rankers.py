"""Trains the learned rankers of finished runs, on draws of the train split."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.core.errors import DivergedError, MissingError, PolicyError
from flowlab.core.progress import SILENT, Progress
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.ranked import draw_errors
from flowlab.lab.banks import raw_draws
from flowlab.lab.ranker_files import OfRun, draw_settings, load_ranker, open_for_ranking, save_ranker
from flowlab.study.ranker import RankerSettings
from flowlab.study.study import Study
from flowlab.train.ranker import RankerData, fit_rankers


@dataclass(frozen=True)
class RankerMade:
    """What `train_rankers` has to say of one run. `loss` is None where the ranker was there already."""

    run_id: str
    ranker: str
    file: str
    num_frames: int
    num_draws: int
    loss: float | None
    seconds: float


def train_rankers(
    study: Study,
    run_ids: Sequence[str],
    settings: RankerSettings,
    device: torch.device,
    progress: Progress = SILENT,
) -> list[RankerMade]:
    """A ranker for each run that has none of these settings; runs of one cache and shape train as one cohort.

    Each gets the bits that it would get alone. A cohort's files are written once it is trained, each whole; what is
    interrupted before begins anew. All runs are looked at before the first is trained.
    """
    runs = [open_for_ranking(study, run_id, settings, device) for run_id in run_ids]
    made = {run.run_id: _there(run) for run in runs}
    cohorts: dict[Any, list[OfRun]] = {}
    for run in runs:
        if made[run.run_id] is None:
            key = (run.checkpoint.cache.cache_id, tuple(run.checkpoint.tokens))
            cohorts.setdefault(key, []).append(run)
    with _one_thread(device):
        for cohort in cohorts.values():
            made |= {one.run_id: one for one in _train_cohort(cohort, progress)}
    return [one for one in made.values() if one is not None]


def train_draws(run: OfRun, frames: ValidationFrames, progress: Progress = SILENT) -> NDArray[np.float32]:
    """Raw draws (N, K, H, A) for train frames, made as the run's evaluation makes them, from noise of their own."""
    return raw_draws(run.checkpoint, draw_settings(run), frames, progress)


def _train_cohort(cohort: list[OfRun], progress: Progress) -> Iterator[RankerMade]:
    begin, first = time.perf_counter(), cohort[0]
    settings, device = first.settings, first.checkpoint.device
    frames = first.checkpoint.frames("train")
    if len(frames) > settings.frames:
        frames = frames.take(np.arange(settings.frames) * len(frames) // settings.frames)
    draws, errors = [], []
    for run in cohort:
        own = train_draws(run, frames, progress)
        if not np.isfinite(own).all():
            raise DivergedError(f"run {run.run_id} has draws that are not finite: nothing can rank them.")
        draws.append(own)
        clip = run.checkpoint.recipe.evaluation.clip
        errors.append(draw_errors(own, frames, settings.looked_at, clip).astype(np.float32))
    data = RankerData(
        frames.condition, torch.from_numpy(np.stack(draws)).to(device), torch.from_numpy(np.stack(errors)).to(device)
    )
    trained = fit_rankers(data, settings, [run.checkpoint.record["seed"] for run in cohort], progress)
    seconds = (time.perf_counter() - begin) / len(cohort)
    for position, (run, loss) in enumerate(zip(cohort, trained.losses, strict=True)):
        save_ranker(run, trained.ranker.run_tensors(position))
        yield RankerMade(run.run_id, run.name, run.path.name, len(frames), settings.draws, loss, seconds)


def _there(run: OfRun) -> RankerMade | None:
    """What there is to say of a ranker that is there already and can be used; None otherwise."""
    try:
        load_ranker(run)
    except (MissingError, PolicyError):
        return None
    num_frames = min(run.settings.frames, run.checkpoint.cache.num_windows("train"))
    return RankerMade(run.run_id, run.name, run.path.name, num_frames, run.settings.draws, None, 0.0)


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU one thread, as runs are trained: more of them would round otherwise in a cohort than alone."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
