"""The full path: a recipe trained once more with its encoder in the loop, beside its run from the cache.

A cache holds conditions in half precision, computed once. Here the same recipe at the same seed sees what the encoder
says of the frames themselves, batch by batch: same fitted stats, same random streams, same validation frames. What is
left between the two is what the cache costs. Such a run has the purpose `full-path`: it is recorded, and never judged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flowlab.core.errors import MissingError
from flowlab.core.progress import Progress
from flowlab.core.vocabulary import CONTROL, FULL_PATH
from flowlab.lab.ground import Ground, open_ground
from flowlab.lab.in_loop import open_recordings
from flowlab.lab.launch import carry_out, read_statuses
from flowlab.lab.plan import PlannedRun, identify
from flowlab.lab.where import Where
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.settings import MetricKey
from flowlab.study.study import Study
from flowlab.train.cohort import Run
from flowlab.verdict.compare import final_numbers


@dataclass(frozen=True)
class Confirmed:
    """A full path beside the cached run of the same recipe and seed; differences are full path - cached.

    Of a full path that crashed the run id and the reason are all there is.
    """

    lever: str
    seed: int
    cached_run_id: str
    run_id: str
    is_new: bool  # trained by this call
    reason: str | None  # why it crashed
    primary: MetricKey
    cached: float
    full_path: float | None
    panel_sd: float | None  # of the primary metric over the rule's panel on this base
    panel_count: int
    loss_difference: float | None  # the largest between the two loss curves, at the ends of epochs
    loss_step: int | None  # after how many steps that is
    loss_there: float | None  # the cached run's loss there
    num_losses: int

    @property
    def difference(self) -> float | None:
        return None if self.full_path is None else self.full_path - self.cached

    def told(self) -> str:
        """What the two runs say of each other, as sentences."""
        both = f"{self.lever} @ {self.seed}"
        if self.full_path is None:
            return f"the full path of {both} crashed ({self.reason}), and its cached run did not: look at both."
        apart, sd = abs(self.full_path - self.cached), self.panel_sd
        told = f"full path and cache of {both} differ by {apart:.2g}"
        if not sd:
            told += ", and no panel on this base says how far seeds lie apart."
        elif apart <= sd:
            told += f", {apart / sd:.2f} panel sd, no more than another seed would: confirmed."
        else:
            told += f", {apart / sd:.2f} panel sd, more than another seed would: look at both."
        if self.loss_difference is None or self.loss_there is None:
            return told
        return (
            f"{told} Their loss curves lie at most {self.loss_difference:.2g} apart, after {self.loss_step} steps, "
            f"where the loss is {self.loss_there:.4g} ({self.num_losses} epochs compared)."
        )


def confirm(
    study: Study,
    lever: str | None,
    seed: int | None,
    where: Where,
    *,
    progress: Progress,
    announce: Callable[[list[PlannedRun]], None],
) -> Confirmed:
    """Train the full path of a lever on the present base, or of the base itself, unless it is there, and compare.

    Without a `seed` it is the first of the rule's seeds at which there is a cached run. Raises MissingError where there
    is none to compare with, or where recordings, encoder or memory are lacking: nothing is then registered.
    """
    name = CONTROL if lever is None else lever
    recipe = study.recipe(name)
    for problem in ingest(study.ledger, study.runs, progress).problems:
        progress.say(f"warning: {problem}")
    ground = open_ground(study, [] if name == CONTROL else [name], None, progress)
    cached_run_id, seed = _cached_run(study, ground, name, seed)
    run_id = identify(study, ground, name, seed, FULL_PATH)
    why = f"the full path beside {cached_run_id}"
    planned = PlannedRun(
        Run(run_id, name, seed, recipe), 0, why, read_statuses(study).get(run_id, ""), purpose=FULL_PATH
    )
    if not planned.done:
        open_recordings(study, ground.supplies[name].cache, study.setup(name).inputs, where.device)
    done = carry_out(study, ground, [planned], where, progress, announce)
    for problem in done.problems:
        progress.say(f"warning: {problem}")
    return _beside(study, ground, name, seed, cached_run_id, run_id, bool(done.trained))


def _cached_run(study: Study, ground: Ground, lever: str, seed: int | None) -> tuple[str, int]:
    """The run that a full path is compared with, and its seed."""
    question = """
        select seed, run_id, status
        from told_runs
        where base_id = ? and lever = ? and recipe_digest = ? and replicate = 0 and purpose is null
        order by entry"""
    digest = ground.recipe_digest(lever, study.recipe(lever))
    found = {row[0]: row[1:] for row in read(study.ledger, question, [ground.base.base_id, lever, digest]).rows}
    registered = tuple(dict.fromkeys((*study.rule.panel_seeds, *study.rule.judged_seeds)))
    finished = [one for one, (_, status) in found.items() if status == "finished"]
    if seed is None:
        in_order = [one for one in registered if one in finished] + finished
        seed = in_order[0] if in_order else registered[0]
    run_id, status = found.get(seed, ("", None))
    if status == "finished":
        return run_id, seed
    if status == "crashed":
        raise MissingError(
            f"run {run_id} crashed, so there is nothing to compare a full path with. Give another seed: --seed N"
        )
    others = f" (there is one at seed {', '.join(map(str, finished))})" if finished else ""
    raise MissingError(
        f"{lever!r} has no finished run from the cache at seed {seed} on the present base, which its full path is "
        f"compared with{others}. Train it: flowlab run --lever {lever} --seeds {seed}"
    )


def _beside(
    study: Study, ground: Ground, lever: str, seed: int, cached_run_id: str, run_id: str, is_new: bool
) -> Confirmed:
    """What the ledger has of both."""
    primary = study.rule.primary
    numbers = final_numbers(study.ledger, primary, [cached_run_id, run_id])
    (reason,) = [row[0] for row in read(study.ledger, "select reason from run_status where run_id = ?", [run_id]).rows]
    panel_question = """
        select panel_sd, panel_count
        from panel_stats
        semi join rules_in_force using (rule_digest)
        where base_id = ? and role = 'primary' and position = 0"""
    panel = read(study.ledger, panel_question, [ground.base.base_id]).rows
    losses = _losses(study, cached_run_id, run_id)
    return Confirmed(
        lever=lever,
        seed=seed,
        cached_run_id=cached_run_id,
        run_id=run_id,
        is_new=is_new,
        reason=reason,
        primary=primary,
        cached=numbers[cached_run_id],
        full_path=numbers.get(run_id),
        panel_sd=panel[0][0] if panel else None,
        panel_count=panel[0][1] if panel else 0,
        **losses,
    )


def _losses(study: Study, cached_run_id: str, run_id: str) -> dict[str, Any]:
    """Where the two loss curves lie farthest apart."""
    question = """
        select step, cached.value, abs(looped.value - cached.value) as apart, count(*) over () as num
        from metrics as cached
        join metrics as looped using (metric, slice, step)
        where metric = 'loss' and slice = 'train' and cached.run_id = ? and looped.run_id = ?
        order by apart desc, step
        limit 1"""
    rows = read(study.ledger, question, [cached_run_id, run_id]).rows
    step, loss, apart, num = rows[0] if rows else (None, None, None, 0)
    return {"loss_difference": apart, "loss_step": step, "loss_there": loss, "num_losses": num}
