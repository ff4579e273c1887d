"""Draws from decoders for the validation frames, and the metric rows of what is read out of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flowlab.core.plugins import Readout
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import BOUNDS, CHUNK_READOUTS, MODE_READOUTS
from flowlab.evaluate.baselines import baseline_chunks
from flowlab.evaluate.cloud import Cloud
from flowlab.evaluate.decompositions import census, conflicts, lag_profile, residuals, variance_tax
from flowlab.evaluate.definitions import MetricDefinitions
from flowlab.evaluate.draw_bank import BankWriter, as_kept, to_raw
from flowlab.evaluate.draws import draw, draw_blocks
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.metrics import score_at, score_each_draw_at, score_l1_at
from flowlab.evaluate.places import Places
from flowlab.evaluate.readouts import build_readout, ladder
from flowlab.evaluate.voting import vote, votes
from flowlab.policy.action_space import ActionSpace
from flowlab.policy.decoder import AnyDecoder
from flowlab.policy.objectives import Objective
from flowlab.study.recipe import EvaluationSettings
from flowlab.study.selection import SelectionSettings

if TYPE_CHECKING:
    import zarr

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

    def draw(
        self,
        objective: Objective,
        decoder: AnyDecoder,
        banks: Mapping[int, BankWriter],
        progress: Progress = SILENT,
    ) -> None:
        """Draw block by block, and write the draws of each run that has a bank (its position among the R) into it."""
        for _, block in draw_blocks(objective, decoder, self.frames, self.settings, progress):
            for run, bank in banks.items():
                bank.append(as_kept(block[run], self.settings.precision))
        for bank in banks.values():
            bank.flush()

    def raw(self, kept: "NDArray[np.floating] | zarr.Array") -> NDArray[np.float32]:
        """One run's kept draws (N, K, h, M), in memory or on disk, as raw chunks (N, K, H, A): what readouts see."""
        return to_raw(kept, self.space, self.frames.horizon)

    @cached_property
    def places(self) -> Places:
        """What all runs are scored at, worked out once."""
        return Places(self.frames, self.definitions)

    def rows(self, draws: NDArray[np.float32]) -> list[MetricRow]:
        """Every metric of every readout of one run's draws (N, K, H, A). Raises DivergedError if one is not finite.

        What rules may name has all rows, the rest the l1 over frame slices and drives. What is taken of the draws
        themselves, or compares readouts, has the readout "".
        """
        plain = {name: build_readout(name)(draws, self.frames) for name in CHUNK_READOUTS}
        rows = [row for name, chunk in plain.items() for row in self._all(name, chunk)]
        rows += score_each_draw_at(self.places, draws, clip=self.settings.clip)
        rows += variance_tax(rows, self.places)
        rows += self._lags("meank", plain["meank"])
        for rung in ladder(max(self.settings.draws, draws.shape[1])):  # an ensemble has more, a regression one
            rows += self._l1(rung.name, rung(draws, self.frames))
        return rows + self._selection_rows(draws, plain) if self.selection else rows

    def _selection_rows(self, draws: NDArray[np.float32], plain: dict[str, NDArray[np.float32]]) -> list[MetricRow]:
        """The rows that are there because draws can be selected; `plain` are the chunks of the other readouts."""
        assert self.selection is not None
        cloud = Cloud(draws, self.frames, self.selection, self.settings.clip)
        modes = dict(zip(MODE_READOUTS, (cloud.mode(), cloud.medoid(), cloud.waypoint()), strict=True))
        bounds = dict(zip(BOUNDS, (cloud.oracle_mode(), cloud.best_draw()), strict=True))
        rows = [row for name, chunk in modes.items() for row in self._all(name, chunk)]
        for name, chunk in (vote(cloud, list(votes(self.selection))) | bounds).items():
            rows += self._l1(name, chunk)
        for name, chunk in (plain | modes).items():
            rows += conflicts(chunk, cloud, self.places, readout=name)
        rows += self._lags("mode", modes["mode"])
        return rows + census(cloud, self.places) + residuals(modes | bounds, cloud, self.places)

    def baseline_rows(self, train_action: NDArray[np.float32]) -> list[MetricRow]:
        """Every metric of each baseline, from the train split's raw chunks (N_train, H, A)."""
        return [
            row
            for name, chunk in baseline_chunks(self.frames, train_action).items()
            for row in score_at(self.places, chunk, readout=name, crossed=False)
        ]

    def rows_of(self, readout: Readout, draws: NDArray[np.float32]) -> list[MetricRow]:
        """Every metric of what one readout makes of draws (N, K, H, A), held within the actuators if it is to be."""
        return self.rows_of_chunk(readout.name, readout(draws, self.frames))

    def rows_of_chunk(self, name: str, chunk: NDArray[np.float32]) -> list[MetricRow]:
        """Every metric of one chunk (N, H, A) a frame, as those of the readout `name`."""
        return self._all(name, chunk)

    def _all(self, name: str, chunk: NDArray[np.float32], crossed: bool = True) -> list[MetricRow]:
        return score_at(self.places, chunk, readout=name, crossed=crossed, clip=self.settings.clip)

    def _l1(self, name: str, chunk: NDArray[np.float32]) -> list[MetricRow]:
        return score_l1_at(self.places, chunk, readout=name, clip=self.settings.clip)

    def _lags(self, name: str, chunk: NDArray[np.float32]) -> list[MetricRow]:
        return lag_profile(chunk, self.places, readout=name, clip=self.settings.clip)

    def sample(self, objective: Objective, decoder: AnyDecoder, step: int) -> list[list[MetricRow]]:
        """A look while training goes on: each run's rows of one draw per frame, none where it is not finite."""
        one_draw = self.settings.model_copy(update={"draws": 1})
        draws = draw(objective, decoder, self.space, self.frames, one_draw)
        return [self._look(one, step) if np.isfinite(one).all() else [] for one in draws]

    def _look(self, draws: NDArray[np.float32], step: int) -> list[MetricRow]:
        found = self._all("single", build_readout("single")(draws, self.frames), crossed=False)
        kept = self.definitions.frame_slices
        return [
            row._replace(step=step) for row in found if row.metric in LOOKED_AT and row.slice in kept and not row.drive
        ]
