"""The phases of a tree that try no levers: selection among the base's draws, and its confirmation on the full path."""

from collections.abc import Callable

from flowlab.core.progress import Progress
from flowlab.lab.bench import open_bench
from flowlab.lab.full_path import confirm
from flowlab.lab.ground import open_ground
from flowlab.lab.plan import PlannedRun
from flowlab.lab.rankers import train_rankers
from flowlab.lab.rankings import evaluate_rankers
from flowlab.lab.scoring import score_runs
from flowlab.lab.where import Where
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.study import Study
from flowlab.study.tree import PhaseSettings


def select_draws(study: Study, phase: PhaseSettings, where: Where, progress: Progress) -> str:
    """Read the base's finished runs out in the phase's ways, and by rankers if it says so; gives what was done.

    A run that is scored so already is left as it is.
    """
    base_id = open_ground(study, (), where.device, progress).base.base_id
    question = "select run_id from evidence where is_control and base_id = ? order by seed"
    run_ids = [run_id for (run_id,) in read(study.ledger, question, [base_id]).rows]
    if not run_ids:
        return "the base has no finished run to select among"
    scored = score_runs(open_bench(study, {}, where.device, phase.readouts, progress), run_ids, progress)
    told = f"{len(run_ids)} runs of the base, {sum(one.num_new for one in scored)} new numbers"
    if phase.ranker:
        settings = study.file.ranker
        made = train_rankers(study, run_ids, settings, where.device, progress)
        evaluate_rankers(study, run_ids, settings, where.device, progress)
        told += f", {len(made)} rankers"
    ingest(study.ledger, study.runs, progress)
    return told


def confirm_base(study: Study, where: Where, progress: Progress, announce: Callable[[list[PlannedRun]], None]) -> str:
    """Train the base once on the full path, and tell it against the cached run beside the panel's sd."""
    done = confirm(study, None, None, where, progress=progress, announce=announce)
    return done.told()
