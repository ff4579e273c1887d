"""Draws from decoders for the validation frames, and the metric rows of what is read out of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowlab.core.plugins import Readout
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import MetricRow
from flowlab.evaluate.baselines import baseline_chunks
from flowlab.evaluate.definitions import MetricDefinitions
from flowlab.evaluate.draw_bank import as_kept, to_raw
from flowlab.evaluate.draws import draw, draw_model
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.metrics import score, score_each_draw
from flowlab.evaluate.readouts import build_readout, own_readouts
from flowlab.policy.action_space import ActionSpace
from flowlab.policy.decoder import AnyDecoder
from flowlab.policy.objectives import Objective
from flowlab.study.recipe import EvaluationSettings
from flowlab.study.selection import SelectionSettings

LOOKED_AT = ("l1", "maneuver_l1", "maneuver_fraction", "maneuver_slot_l1", "maneuver_slot_fraction")
"""What of one draw per frame is reported while training goes on."""


@dataclass(frozen=True)
class Scorer:
    """How the decoders of a cohort are scored: on which frames, by which metrics, from which draws."""

    frames: ValidationFrames
    definitions: MetricDefinitions
    space: ActionSpace
    settings: EvaluationSettings
    selection: SelectionSettings | None = None  # the study's, where the drives have its channel

    def draw(self, objective: Objective, decoder: AnyDecoder, progress: Progress = SILENT) -> NDArray[np.floating]:
        """Draws in model space (R, N, K, h, M), as they are kept."""
        return as_kept(draw_model(objective, decoder, self.frames, self.settings, progress), self.settings.precision)

    def raw(self, kept: NDArray[np.floating]) -> NDArray[np.float32]:
        """One run's kept draws (N, K, h, M) as raw chunks (N, K, H, A): what readouts see."""
        return to_raw(kept, self.space, self.frames.horizon)

    def rows(self, draws: NDArray[np.float32]) -> list[MetricRow]:
        """Every metric of every readout of one run's draws (N, K, H, A). Raises DivergedError if one is not finite."""
        readouts = own_readouts(self.selection, self.settings.draws, self.settings.clip)
        read_out = [row for readout in readouts for row in self._score(readout, draws)]
        return read_out + score_each_draw(draws, self.frames, self.definitions, clip=self.settings.clip)

    def rows_of(self, readout: Readout, draws: NDArray[np.float32]) -> list[MetricRow]:
        """Every metric of one readout of one run's draws (N, K, H, A)."""
        return self._score(readout, draws)

    def baseline_rows(self, train_action: NDArray[np.float32]) -> list[MetricRow]:
        """Every metric of each baseline, from the train split's raw chunks (N_train, H, A)."""
        return [
            row
            for name, chunk in baseline_chunks(self.frames, train_action).items()
            for row in score(chunk, self.frames, self.definitions, readout=name, crossed=False)
        ]

    def _score(self, readout: Readout, draws: NDArray[np.float32], crossed: bool = True) -> list[MetricRow]:
        """Every metric of what one readout makes of draws (N, K, H, A), held within the actuators if it is to be."""
        chunk = readout(draws, self.frames)
        clip = self.settings.clip
        return score(chunk, self.frames, self.definitions, readout=readout.name, crossed=crossed, clip=clip)

    def sample(self, objective: Objective, decoder: AnyDecoder, step: int) -> list[list[MetricRow]]:
        """A look while training goes on: each run's rows of one draw per frame, none where it is not finite."""
        one_draw = self.settings.model_copy(update={"draws": 1})
        draws = draw(objective, decoder, self.space, self.frames, one_draw)
        return [self._look(one, step) if np.isfinite(one).all() else [] for one in draws]

    def _look(self, draws: NDArray[np.float32], step: int) -> list[MetricRow]:
        found = self._score(build_readout("single"), draws, crossed=False)
        kept = self.definitions.frame_slices
        return [
            row._replace(step=step) for row in found if row.metric in LOOKED_AT and row.slice in kept and not row.drive
        ]
