"""Where finished policies are scored again: one way to evaluate, on the study's validation frames.

What is the same for all of them is found out once: frames, slices, readouts and the names of their rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.cache.cache import open_cache
from flowlab.core.digest import canonical_json
from flowlab.core.errors import StudyError
from flowlab.core.plugin_code import source_digest
from flowlab.core.plugins import Readout
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import PLUGIN_BOUND
from flowlab.evaluate.definitions import MetricDefinitions, define_metrics
from flowlab.evaluate.frames import ValidationFrames, cover
from flowlab.evaluate.guarded import Guarded, looks_at_truth
from flowlab.evaluate.readouts import MeanFirst, build_readout
from flowlab.evaluate.scorer import Scorer
from flowlab.lab.ground import Ground, open_ground, validation_frames
from flowlab.policy.space_json import space_from_json
from flowlab.study.ranker import RANKER
from flowlab.study.recipe import EvaluationSettings
from flowlab.study.selection import SelectionSettings, selection_for
from flowlab.study.study import Study


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
            cache = open_cache(self.study.cache_home / f"{cache_id}.zarr", expect_id=cache_id)
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
            chunk = readout(draws, seen)
            if given not in self._row_names:
                self._row_names[given] = row_name(given, readout, looks_at_truth(readout, draws, seen, chunk))
            rows += scorer.rows_of_chunk(self._row_names[given], chunk)
        return rows

    @cached_property
    def train_action(self) -> NDArray[np.float32]:
        """The raw chunks (N_train, H, A) of the train side, for baselines."""
        return self.ground.frames_cache.split("train", variants=()).action.numpy()


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
