"""The executor `inline`: runs are trained in this process, in as few cohorts as their shapes allow. For a GPU."""

from dataclasses import dataclass

import torch

from flowlab.core.progress import SILENT, Progress
from flowlab.lab.ground import Ground
from flowlab.lab.plan import PlannedRun
from flowlab.lab.run import run_all
from flowlab.study.study import Study


@dataclass(frozen=True)
class Inline:
    """This process (core.plugins.Executor)."""

    device: torch.device

    def execute(self, study: Study, ground: Ground, runs: list[PlannedRun], progress: Progress = SILENT) -> None:
        """Train and evaluate `runs`. Raises the first cohort's RunFailedError, once the others are done."""
        threads = torch.get_num_threads()
        if self.device.type == "cpu":
            torch.set_num_threads(1)  # a run then gives the same bits as in a worker process
        try:
            run_all(study, ground, runs, self.device, progress)
        finally:
            torch.set_num_threads(threads)
