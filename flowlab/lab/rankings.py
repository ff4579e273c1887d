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
from flowlab.core.vocabulary import RANKER_METRICS
from flowlab.evaluate.definitions import MetricDefinitions, define_metrics
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.metrics import score
from flowlab.evaluate.mode_readouts import Mode, OracleMode
from flowlab.evaluate.ranked import draw_errors, ranked_rows
from flowlab.evaluate.readouts import MeanK
from flowlab.evaluate.slices import frame_masks
from flowlab.lab.banks import raw_draws
from flowlab.lab.ground import Ground, open_ground
from flowlab.lab.late_rows import add_rows
from flowlab.lab.ranker_files import OfRun, open_for_ranking, readouts_of
from flowlab.study.ranker import RankerSettings
from flowlab.study.recipe import EvaluationSettings
from flowlab.study.study import Study

BEST_DRAW = "best-draw"

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
    def definitions(self) -> MetricDefinitions:
        return define_metrics(self.run.checkpoint.study.file.slices, self.frames.channels, self.ground.thresholds)

    def ranking(self, progress: Progress) -> Ranking:
        checkpoint = self.run.checkpoint
        evaluation = checkpoint.evaluation
        draws = raw_draws(checkpoint, evaluation, self.frames, progress)
        rows = ranked_rows(readouts_of(self.run), draws, self.frames, self.definitions, evaluation.clip)
        masks = frame_masks(self.frames.truth, self.frames.channels, self.definitions.slices)
        num_frames = {where: int(mask.sum()) for where, mask in masks.items() if mask.any()}
        channel = self.run.settings.looked_at or ""
        choice = {metric: _by_slice(rows, metric) for metric in RANKER_METRICS}
        return Ranking(
            checkpoint.run_id,
            self.run.name,
            channel,
            draws.shape[1],
            num_frames,
            self._beside(draws, evaluation.clip) | _l1(rows, channel, num_frames),
            {metric: values for metric, values in choice.items() if values},
            add_rows(checkpoint.study, checkpoint.run_id, rows),
        )

    def _beside(self, draws: NDArray[np.float32], clip: bool) -> dict[str, BySlice]:
        """What a ranker is to be compared with: no choice, the larger mode, and the bounds."""
        frames, selection, channel = self.frames, self.run.selection, self.run.settings.looked_at
        modes: list[Readout] = [Mode(selection), OracleMode(selection, clip)] if selection else []
        rows: list[MetricRow] = []
        for readout in [MeanK(), *modes]:
            chunk = readout(draws, frames)
            rows += score(chunk, frames, self.definitions, readout=readout.name, crossed=False, clip=clip)
        best = draw_errors(draws, frames, channel, clip).min(axis=1)
        masks = frame_masks(frames.truth, frames.channels, self.definitions.slices)
        return _l1(rows, channel or "", masks) | {
            BEST_DRAW: {where: float(best[mask].mean()) for where, mask in masks.items() if mask.any()}
        }


def _but_draws(evaluation: dict[str, Any]) -> dict[str, Any]:
    """What of an evaluation numbers are scored by: all but how draws are made, which is the run's own."""
    return {key: value for key, value in evaluation.items() if key not in EvaluationSettings.model_fields}


def _l1(rows: Sequence[MetricRow], channel: str, slices: Sequence[str] | dict) -> dict[str, BySlice]:
    """By readout, the l1 of that channel on those frame slices, over all drives."""
    found: dict[str, BySlice] = {}
    for row in rows:
        if (row.metric, row.channel, row.drive) == ("l1", channel, "") and row.slice in slices:
            found.setdefault(row.readout, {})[row.slice] = row.value
    return found


def _by_slice(rows: Sequence[MetricRow], metric: str) -> BySlice:
    return {row.slice: row.value for row in rows if row.metric == metric}
