"""Whom a diagnosis looks at: one policy, the frames it is asked about, and how it is asked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from flowlab.core.errors import PolicyError
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import ConditionSpec
from flowlab.core.vocabulary import MERGED, MERGED_FROM
from flowlab.evaluate.definitions import MetricDefinitions
from flowlab.evaluate.draws import draw
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.metrics import clipped
from flowlab.evaluate.places import Places
from flowlab.evaluate.slices import frame_masks
from flowlab.policy.action_space import ActionSpace
from flowlab.policy.decoder import AnyDecoder
from flowlab.policy.objectives import Objective
from flowlab.study.recipe import EvaluationSettings
from flowlab.study.slices import SliceSettings


@dataclass(frozen=True, eq=False)
class Subject:
    """A policy of one run (R = 1) and N frames with their condition as it sees it.

    `channel` is the raw channel that is looked at most closely: the one that splits draws into modes. `slices` are the
    study's; `spec` names the groups of the tokens that the decoder sees.
    """

    run_id: str
    decoder: AnyDecoder
    objective: Objective
    space: ActionSpace
    settings: EvaluationSettings
    frames: ValidationFrames
    slices: Mapping[str, SliceSettings]
    channel: str
    spec: ConditionSpec

    @property
    def channels(self) -> tuple[str, ...]:
        """The raw channels."""
        return self.frames.channels

    @property
    def column(self) -> int:
        """Where `channel` stands among the raw channels."""
        return self.channels.index(self.channel)

    @property
    def model_column(self) -> int:
        """Where `channel`, or what it was merged into, stands among the model channels."""
        name = MERGED if self.space.is_merged and self.channel in MERGED_FROM else self.channel
        return self.space.channels.index(name)

    @cached_property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """The frame slices that hold frames, as masks (N,); the first is overall."""
        masks = frame_masks(self.frames.truth, self.channels, self.slices)
        return {name: mask for name, mask in masks.items() if mask.any()}

    @cached_property
    def places(self) -> Places:
        """The same for the metrics of every run, but for their maneuvers."""
        return Places(self.frames, MetricDefinitions(self.slices, {}))

    def take(self, rows: NDArray[np.int64]) -> "Subject":
        """The same policy, asked about the frames at `rows`."""
        return replace(self, frames=self.frames.take(rows))

    def with_condition(self, condition: Tensor) -> "Subject":
        """The same policy, which is told `condition` (N, S, D) of the same frames."""
        return replace(self, frames=replace(self.frames, condition=condition))

    def ask(self, progress: Progress = SILENT, /, **changes: str | int) -> NDArray[np.float32]:
        """Raw draws (N, K, H, A), in float32, under the run's own evaluation but for `changes` of its keys.

        Fewer draws are the first ones of the same noise.
        """
        settings = self.settings.model_copy(update=changes)
        return draw(self.objective, self.decoder, self.space, self.frames, settings, progress)[0]

    def held(self, action: NDArray) -> NDArray[np.float64]:
        """Actions (..., A) as they are scored: with `evaluation.clip` within each channel's range, if one is known."""
        action = np.asarray(action, np.float64)
        return clipped(action, self.channels) if self.settings.clip else action

    def mean_of(self, draws: NDArray) -> NDArray[np.float64]:
        """The mean (N, H, A) of draws (N, K, H, A), held: what the readout `meank` is scored by."""
        return self.held(draws.mean(axis=1, dtype=np.float64))

    def require_draws(self, name: str) -> None:
        """Raises PolicyError for a policy whose draws are all one: there is no cloud to look at."""
        if self.objective.deterministic or self.settings.draws == 1:
            why = "is a regression" if self.objective.deterministic else "was evaluated by one draw"
            raise PolicyError(
                f"run {self.run_id} {why}, so each frame has one draw, and diagnose {name} looks at what several have "
                f"in common. Ask for a run of objective.kind 'flow', or for another diagnosis: horizon, attribution."
            )


def evenly(num: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the rows 0 .. num - 1, evenly spread, in order; all of them if there are no more."""
    return np.arange(num) if num <= most else np.linspace(0, num - 1, most).round().astype(np.int64)


def first_of_each(drive: NDArray[np.int64], now: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The rows of the first `most` frames of each drive by their frame_index (N,), in the order of the rows."""
    order = np.lexsort((now, drive))
    starts = np.searchsorted(drive[order], np.unique(drive))
    place = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    return np.sort(order[place < most])
