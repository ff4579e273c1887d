"""What finished runs' rankers choose among their draws: metric rows for the ledger, and tables to compare them by."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.core.errors import EvaluationMismatchError
from flowlab.core.plugins import Readout
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import BOUNDS, RANKER_METRICS
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.metrics import score_l1_at
from flowlab.evaluate.mode_readouts import Mode, OracleMode
from flowlab.evaluate.places import Places
from flowlab.evaluate.ranked import draw_errors, ranked_rows
from flowlab.evaluate.readouts import MeanK, MedianK
from flowlab.lab.banks import raw_draws
from flowlab.lab.ground import Ground, open_ground
from flowlab.lab.late_rows import add_rows
from flowlab.lab.ranker_files import OfRun, open_for_ranking, readouts_of
from flowlab.study.ranker import RankerSettings
from flowlab.study.recipe import EvaluationSettings
from flowlab.study.study import Study

_, BEST_DRAW = BOUNDS
BySlice = dict[str, float]


@dataclass(frozen=True)
class Ranking:
    """One run's draws as its ranker reads them out. A slice without frames is in no table."""

    run_id: str
    ranker: str
    channel: str  # whose L1 is told; "" for all
    num_draws: int
    num_frames: dict[str, int]  # by slice
    l1: dict[str, BySlice]  # by readout: the ranker's own, and what they are to be compared with
    choice: dict[str, BySlice]  # by metric, those of RANKER_METRICS
    num_new: int  # metric rows that the run did not have


def evaluate_rankers(
    study: Study, run_ids: Sequence[str], settings: RankerSettings, device: torch.device, progress: Progress = SILENT
) -> list[Ranking]:
    """Each run's ranker of these settings on the validation frames; the rows are then in the run's journal.

    Raises as `load_ranker` does, and EvaluationMismatchError for a run that was scored on other frames or slices.
    All runs are looked at before the first is scored.
    """
    ground = open_ground(study)
    tables = [_Table(open_for_ranking(study, run_id, settings, device), ground) for run_id in run_ids]
    for table in tables:
        table.require_readable()
    with progress.task("rank", len(tables), "runs") as task:
        rankings = []
        for table in tables:
            rankings.append(table.ranking(progress))
            task.advance()
    return rankings


@dataclass(frozen=True, eq=False)
class _Table:
    run: OfRun
    ground: Ground

    def require_readable(self) -> None:
        """Raises for a run whose ranker cannot be used, or whose numbers would not be comparable."""
        record = self.run.checkpoint.record
        there, now = (_but_draws(evaluation) for evaluation in (record["evaluation"], self.ground.base.evaluation))
        if there != now:
            keys = sorted(key for key in there.keys() | now.keys() if there.get(key) != now.get(key))
            raise EvaluationMismatchError(
                f"run {record['run_id']} was scored by other {' and '.join(keys)} than the study has now, so the "
                f"numbers of its ranker could not stand beside its others. Name runs of the study as it is."
            )
        readouts_of(self.run)

    @cached_property
    def frames(self) -> ValidationFrames:
        return self.run.checkpoint.frames()

    @cached_property
    def places(self) -> Places:
        definitions = define_metrics(
            self.run.checkpoint.study.file.slices, self.frames.channels, self.ground.thresholds
        )
        return Places(self.frames, definitions)

    @cached_property
    def slices(self) -> dict[str, NDArray[np.int64]]:
        """The rows of each frame slice that has frames."""
        return {where: rows for (where, drive), rows in self.places.whole.items() if not drive}

    def ranking(self, progress: Progress) -> Ranking:
        checkpoint = self.run.checkpoint
        clip = checkpoint.evaluation.clip
        draws = raw_draws(checkpoint, checkpoint.evaluation, self.frames, progress)
        rows = ranked_rows(readouts_of(self.run), draws, self.places, clip)
        choice = {metric: _by_slice(rows, metric) for metric in RANKER_METRICS}
        return Ranking(
            checkpoint.run_id,
            self.run.name,
            self.channel,
            draws.shape[1],
            {where: len(inside) for where, inside in self.slices.items()},
            self._beside(draws, clip) | self._l1(rows),
            {metric: values for metric, values in choice.items() if values},
            add_rows(checkpoint.study, checkpoint.run_id, rows),
        )

    @property
    def channel(self) -> str:
        """Whose L1 is told; "" for all."""
        return self.run.settings.looked_at or ""

    def _beside(self, draws: NDArray[np.float32], clip: bool) -> dict[str, BySlice]:
        """What a ranker is to be compared with: no choice, the larger mode, and what the best choice would give."""
        selection = self.run.selection
        readouts: list[Readout] = [MeanK(), MedianK()]
        if selection:
            readouts += [Mode(selection), OracleMode(selection, clip)]
        rows: list[MetricRow] = []
        for readout in readouts:
            rows += score_l1_at(self.places, readout(draws, self.frames), readout=readout.name, clip=clip)
        best = draw_errors(draws, self.frames, self.run.settings.looked_at, clip).min(axis=1)
        return self._l1(rows) | {BEST_DRAW: {where: float(best[rows].mean()) for where, rows in self.slices.items()}}

    def _l1(self, rows: Sequence[MetricRow]) -> dict[str, BySlice]:
        """By readout, the l1 of the channel on frame slices, over all drives."""
        found: dict[str, BySlice] = {}
        for row in rows:
            if (row.metric, row.channel, row.drive) == ("l1", self.channel, "") and row.slice in self.slices:
                found.setdefault(row.readout, {})[row.slice] = row.value
        return found


def _but_draws(evaluation: dict[str, Any]) -> dict[str, Any]:
    """What of an evaluation numbers are scored by: all but how draws are made, which is the run's own."""
    return {key: value for key, value in evaluation.items() if key not in EvaluationSettings.model_fields}


def _by_slice(rows: Sequence[MetricRow], metric: str) -> BySlice:
    return {row.slice: row.value for row in rows if row.metric == metric and not row.drive}
