"""`flowlab loop`: goes through the study's tree, phase by phase, with what the rule owes, until it is done or stopped.

Nothing of where it is lives in the process: phases, runs, verdicts and stacks are in the ledger, so a loop that was
killed goes on where it was when it is begun again.
"""

import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import floor
from pathlib import Path

from flowlab.core.errors import BusyError, LoopStoppedError, RunFailedError, StudyError
from flowlab.core.locks import hold
from flowlab.core.progress import Progress
from flowlab.core.vocabulary import CONTROL
from flowlab.lab.finale import confirm_base, select_draws
from flowlab.lab.ground import Ground
from flowlab.lab.launch import (
    begin_calibration,
    carry_out,
    end_calibration,
    prepare,
    read_statuses,
    why_nothing_owed,
)
from flowlab.lab.plan import TERMINAL, PlannedRun, plan_owed
from flowlab.lab.run_dir import RunDir
from flowlab.lab.sealing import Show, rule_for
from flowlab.lab.sharing import has_ended
from flowlab.lab.stacking import finish_stack, stack
from flowlab.lab.tree import PhaseState, read_phases, register_tree, tell_phase, tree_of
from flowlab.lab.where import Where
from flowlab.ledger.connection import read, reading
from flowlab.ledger.ingest import ingest
from flowlab.study.rule import Rule
from flowlab.study.study import Study, load_study
from flowlab.study.tree import PhaseSettings
from flowlab.verdict.judge import OwedRun, Verdict, read_broken_panels, read_owed, read_verdicts
from flowlab.verdict.record import record_decisions

LOCK_FILE = "loop.lock"
MOST_FAILURES = 2
"""How often a run may fail, the last time alone, before it is given up as crashed."""

Announce = Callable[[list[PlannedRun]], None]


@dataclass(frozen=True)
class Limits:
    """What one `flowlab loop` may spend. `until` is a time.monotonic(); None is without limit."""

    until: float | None = None
    max_runs: int | None = None


@dataclass
class Loop:
    """One loop under way: its study as it is now, and what it has spent."""

    study: Study
    where: Where
    limits: Limits
    progress: Progress
    show: Show
    announce: Announce
    trained: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def spent(self) -> str:
        """ "" while the command's budget lasts; else what is used up."""
        if self.limits.max_runs is not None and self.trained >= self.limits.max_runs:
            return f"the {self.limits.max_runs} runs of this command are used up"
        if self.limits.until is not None:
            left_s = self.limits.until - time.monotonic()
            if left_s <= 0 or left_s < (median_run_s(self.study) or 0):
                return "the time of this command is used up: no run would end in it"
        return ""


def run_loop(
    root: Path,
    where: Where,
    limits: Limits,
    *,
    progress: Progress,
    show: Show,
    announce: Announce,
    amend: str | None = None,
) -> str:
    """Go through the tree of the study at `root`; gives the sentence why it ended.

    Raises BusyError while another loop is at the study, LoopStoppedError where the tree says to stop, and whatever no
    lever is to blame for: a full disk, a panel that will never be complete.
    """
    study = load_study(root)
    tree_of(study)
    require_one_by_one(study)
    with only_loop(study.runs):
        register_tree(study, amend)
        loop = Loop(study, where, limits, progress, show, announce)
        stopped = ""
        for state in read_phases(study):
            if state.state == "ended":
                continue
            phase = state.phase
            if stopped and not phase.always:
                continue
            if state.state == "waits":
                tell_phase(loop.study, phase.name, "began", f"{phase.kind} {' '.join(phase.levers)}".strip())
            progress.say(f"phase {phase.name}: {told_work(phase)}")
            ended = go_through(loop, phase)
            if ended and not stopped:
                tell_phase(loop.study, phase.name, "ended", ended)
                progress.say(f"phase {phase.name} ended: {ended}")
            elif not ended:
                stopped = stopped or loop.spent()
        return stopped or "every phase of the tree has ended"


def told_work(phase: PhaseSettings) -> str:
    """What a phase does, for a line on the screen."""
    if phase.kind == "levers":
        return f"levers {', '.join(phase.levers)}"
    return "the base's draws, read out in other ways" if phase.kind == "selection" else "the base on the full path"


def require_one_by_one(study: Study) -> None:
    """Raises StudyError for a rule with a screen: its levers are tried together, which is another command."""
    if study.rule.screen is not None:
        raise StudyError(
            f"rule {study.rule.name!r} screens levers together, and the loop tries them one by one. Judge by a rule "
            f"without a screen (study.rule), or go on by hand: flowlab screen, then flowlab run --owed"
        )


@contextmanager
def only_loop(runs: Path) -> Iterator[None]:
    """One loop at a time on a study. Raises BusyError, naming who holds it."""
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / LOCK_FILE
    holder = path.read_text().strip() if path.exists() else ""
    busy = BusyError(f"another flowlab loop is at this study: {holder or 'it has just begun'}. Look: flowlab watch")
    with hold(path, 0, busy):
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        path.write_text(f"process {os.getpid()} on {platform.node()}, since {since}\n")
        yield


def go_through(loop: Loop, phase: PhaseSettings) -> str:
    """Work at one phase: gives why it ended, or "" where the command's budget stopped it."""
    if phase.kind == "selection":
        return select_draws(loop.study, phase, loop.where, loop.progress)
    if phase.kind == "finale":
        return confirm_base(loop.study, loop.where, loop.progress, loop.announce)
    return try_levers(loop, phase)


def try_levers(loop: Loop, phase: PhaseSettings) -> str:
    """Run what the rule wants of the phase's levers until it wants nothing more, stacking what it says to stack."""
    while True:
        loop.study = load_study(loop.study.root)
        if finish_stack(loop.study, loop.progress) is not None:
            loop.study = load_study(loop.study.root)
        ground, wanted, winners = what_next(loop, phase)
        if not wanted and not winners:
            return "the rule wants nothing more of its levers"
        state = next(state for state in read_phases(loop.study) if state.phase.name == phase.name)
        if state.budget_left:
            return state.budget_left
        if loop.spent() and not phase.always:
            return ""
        if wanted:
            train(loop, ground, state, wanted)
        else:
            stack_best(loop, winners)


def what_next(loop: Loop, phase: PhaseSettings) -> tuple[Ground, list[PlannedRun], list[Verdict]]:
    """The ground, the runs that are wanted of the phase now, controls first, and the levers that the rule stacks."""
    study = loop.study
    levers = [lever for lever in phase.levers if lever in study.open_levers]
    ground = prepare(study, levers, loop.where.device, loop.progress)
    controls = begin_calibration(study, ground)
    if controls is not None:
        lacking = [item for item in controls if not item.done]
        if lacking:
            return ground, lacking, []
        end_calibration(study, ground, controls, loop.progress, loop.show)
    record_decisions(study.runs, study.ledger)
    with reading(study.ledger):
        return ground, *_wanted(loop, ground, levers)


def _wanted(loop: Loop, ground: Ground, levers: Sequence[str]) -> tuple[list[PlannedRun], list[Verdict]]:
    """The runs that the sealed rule wants of these levers, and the levers that it stacks."""
    study = loop.study
    rule = rule_for(study, ground)
    verdicts = [row for row in read_verdicts(study.ledger, rule.digest()) if row.lever in levers]
    here = {row.lever: row for row in verdicts if row.base_id == ground.base.base_id}
    dropped = {row.lever for row in verdicts if row.decision == "drop"}  # on any base: it had its chance
    _stop_at_crashes(study, levers)
    owed = [run for run in read_owed(study.ledger) if run.lever == CONTROL or run.lever in levers]
    untried = [lever for lever in levers if lever not in here and lever not in dropped]
    if untried and read_broken_panels(study.ledger):
        raise LoopStoppedError(why_nothing_owed(study))
    owed += first_looks(study, ground, rule, untried)
    planned, unknown = plan_owed(study, ground, owed, read_statuses(study))
    for problem in unknown:
        loop.progress.say(f"warning: {problem}")
    winners = [row for row in here.values() if row.decision == "stack"]
    return [item for item in planned if not item.done], winners


def first_looks(study: Study, ground: Ground, rule: Rule, levers: Sequence[str]) -> list[OwedRun]:
    """The runs that bring levers which have none before the rule: the seeds of its first stage."""
    stage, base_id = rule.stages[0], ground.base.base_id
    seeds = enumerate(rule.first_seeds, start=stage.first_seed)
    return [
        OwedRun(
            rule.name, rule.digest(), base_id, lever, ground.recipe_digest(lever, study.recipe(lever)), seed, at,
            "first look", None,
        )
        for at, seed in seeds
        for lever in levers
    ]  # fmt: skip


def _stop_at_crashes(study: Study, levers: Sequence[str]) -> None:
    """Raises LoopStoppedError where a lever's run has crashed and the tree says to stop at that."""
    if tree_of(study).on_crash != "stop":
        return
    question = "select run_id, lever, reason from run_status where status = 'crashed'"
    crashed = [(run_id, reason) for run_id, lever, reason in read(study.ledger, question).rows if lever in levers]
    if crashed:
        run_id, reason = crashed[0]
        raise LoopStoppedError(
            f"run {run_id} crashed ({reason}), and the tree says to stop at that. Take its lever out of the phase, or "
            f"set on_crash = 'go-on', and put that on record: flowlab loop --amend REASON"
        )


def stack_best(loop: Loop, winners: Sequence[Verdict]) -> None:
    """Stack the lever of the largest effect. The others are tried again, on the new base."""
    best = max(winners, key=lambda row: row.effect or 0.0)
    if tree_of(loop.study).on_stack == "stop":
        raise LoopStoppedError(
            f"rule {best.rule!r} says stack of {', '.join(row.lever for row in winners)}, and the tree says to stop "
            f"there. Stack it: flowlab stack {best.lever}; then go on: flowlab loop"
        )
    stacked = stack(loop.study, best.lever, loop.progress)
    record_decisions(loop.study.runs, loop.study.ledger)
    loop.progress.say(f"stacked {best.lever}: the base is now control -> {' -> '.join(stacked.stacked)}")


def train(loop: Loop, ground: Ground, state: PhaseState, wanted: list[PlannedRun]) -> None:
    """Train as many of the wanted runs as every budget has room for.

    One that failed before is tried once more, alone: out of memory is most often that there were too many at once.
    One that then fails again is given up as crashed, and the rule drops its lever.
    """
    again = [item for item in wanted if loop.failures[item.run.run_id]]
    batch = again[:1] or wanted[: room(loop, state)]
    try:
        done = carry_out(loop.study, ground, batch, loop.where, loop.progress, loop.announce)
    except RunFailedError as error:
        ended = read_statuses(loop.study)
        failed = [item for item in batch if ended.get(item.run.run_id) not in TERMINAL]
        loop.failures.update(item.run.run_id for item in failed)
        loop.trained += len(batch) - len(failed)
        loop.progress.say(f"warning: {error}")
        if again:
            give_up(loop, failed, error)
        return
    for problem in done.problems:
        loop.progress.say(f"warning: {problem}")
    loop.trained += len(done.trained)


def room(loop: Loop, state: PhaseState) -> int:
    """How many runs may be begun at once: no more than any budget has room for, and one at least."""
    phase, found = state.phase, [float("inf")]
    if phase.runs is not None:
        found.append(phase.runs - state.runs)
    is_timed = phase.minutes is not None or loop.limits.until is not None
    run_s = median_run_s(loop.study) if is_timed else None
    if phase.minutes is not None:
        found.append(loop.where.slots if run_s is None else floor((phase.minutes - state.minutes) * 60 / run_s))
    if not phase.always:
        if loop.limits.max_runs is not None:
            found.append(loop.limits.max_runs - loop.trained)
        if loop.limits.until is not None:
            left_s = loop.limits.until - time.monotonic()
            found.append(loop.where.slots if run_s is None else floor(left_s * loop.where.slots / run_s))
    fewest = min(found)
    return sys.maxsize if fewest == float("inf") else max(1, int(fewest))


def median_run_s(study: Study) -> float | None:
    """The seconds of a worker that a finished run took, by the median of the study's; None where none has finished."""
    question = """
        select median(seconds) from (
            select sum(seconds) as seconds
            from run_times semi join evidence using (run_id)
            group by run_id
        )"""
    return read(study.ledger, question).rows[0][0]


def give_up(loop: Loop, failed: Sequence[PlannedRun], error: RunFailedError) -> None:
    """Say in their journals that these runs have crashed: nothing waits for them. Raises `error` if that fails."""
    for item in failed:
        with RunDir(loop.study.runs / item.run.run_id) as out:
            if not has_ended(out.path):
                out.journal.crashed(reason=f"given up after {MOST_FAILURES} failures: {error}", step=0)
    ingest(loop.study.ledger, loop.study.runs, loop.progress)
    ended = read_statuses(loop.study)
    if any(ended.get(item.run.run_id) not in TERMINAL for item in failed):
        raise error
