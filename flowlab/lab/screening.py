"""Screens: sealed whole before any of it runs, trained as levers are, solved anew where rows crashed.

What a screen says is the view screen_effects; nothing here computes an effect.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flowlab.core.errors import LedgerError, StudyError
from flowlab.core.progress import Progress
from flowlab.journal.lines import StudyJournal
from flowlab.lab.ground import Ground, open_ground
from flowlab.lab.launch import (
    Launched,
    Where,
    carry_out,
    note_caches,
    read_statuses,
    recipes_by_cache,
    require_trainable,
)
from flowlab.lab.plan import TERMINAL, PlannedRun, identify
from flowlab.lab.screen_plan import ScreenPlan, choose_seeds
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.combining import with_rows
from flowlab.study.rule import Rule, Sigma
from flowlab.study.study import Study
from flowlab.train.cohort import Run
from flowlab.verdict.design import contrast_weights
from flowlab.verdict.seal import one_at_a_time


@dataclass(frozen=True)
class ScreenRun:
    """A row of a sealed screen, and how far its run is."""

    name: str
    seed: int
    recipe_digest: str
    levers: tuple[str, ...]
    is_weighed: bool
    status: str | None
    has_value: bool

    @property
    def is_lost(self) -> bool:
        """Whether its run has ended without the number that the rule looks at: it crashed, or has no such metric."""
        return self.status in TERMINAL and not self.has_value


@dataclass(frozen=True)
class SealedScreen:
    """A screen of the rule in force, on the ledger's last base."""

    name: str
    levers: tuple[str, ...]
    untold: tuple[str, ...]  # of the levers, those that can no longer be told from the others
    runs: tuple[ScreenRun, ...]

    @property
    def lost(self) -> tuple[str, ...]:
        """The rows that are still weighed and will never have a value."""
        return tuple(run.name for run in self.runs if run.is_weighed and run.is_lost)

    @property
    def is_finished(self) -> bool:
        return not self.lost and all(run.status in TERMINAL for run in self.runs)


def find_screens(study: Study) -> list[SealedScreen]:
    """The screens of the rule in force on the ledger's last base, oldest first; none where there is no ledger."""
    if not study.ledger.exists():
        return []
    question = """
        select screen
        from screens
        semi join rules_in_force using (rule_digest)
        where base_id = (select base_id from bases order by entry desc limit 1)
        order by entry"""
    return [_read_screen(study, name) for (name,) in read(study.ledger, question).rows]


def _read_screen(study: Study, name: str) -> SealedScreen:
    effects = read(
        study.ledger, "select lever, num_rows from screen_effects where screen = ? order by position", [name]
    ).rows
    rows = read(
        study.ledger,
        """
        select row_name, seed, recipe_digest, levers, is_weighed, status, value is not null
        from screen_runs where screen = ? order by position""",
        [name],
    ).rows
    runs = tuple(ScreenRun(row, seed, digest, tuple(on), *state) for row, seed, digest, on, *state in rows)
    untold = tuple(lever for lever, num_rows in effects if not num_rows)
    return SealedScreen(name, tuple(lever for lever, _ in effects), untold, runs)


def next_number(study: Study) -> int:
    """The number of the study's next screen."""
    if not study.ledger.exists():
        return 1
    return 1 + read(study.ledger, "select count(*) from screens").rows[0][0]


def require_screens(rule: Rule) -> None:
    """Raises StudyError for a rule that does not say what a screen has to show."""
    if rule.screen is None:
        raise StudyError(
            f"rule {rule.name!r} says nothing of screens, so no lever could go on from one. Give it a table in "
            f"experiments.toml before it is sealed: screen = {{ bar = 0.010, guard = 2.0 }}, or take the preset 'screen'."
        )


def seal_screen(study: Study, plan: ScreenPlan, rule: Rule, sigma: Sigma, where: Where, progress: Progress) -> None:
    """Put the screen on record, whole, once its caches are there and each row is known to be trainable.

    Raises a FlowlabError, with nothing sealed, for a row that is not; StudyError if another process was quicker.
    """
    rowed = with_rows(study, plan.rows)
    ground = open_ground(rowed, [*plan.levers, *plan.rows], where.device, progress)
    note_caches(rowed, ground)
    for cache, recipes in recipes_by_cache(ground, [(row, rowed.recipe(row)) for row in plan.rows]):
        require_trainable(cache, recipes)
    with one_at_a_time(study.runs):
        ingest(study.ledger, study.runs)
        if f"screen{next_number(study)}" != plan.name:
            raise StudyError(f"another process has just sealed {plan.name}. Give the command again to go on with it.")
        with StudyJournal.of(study.runs) as journal:
            journal.screen(**_as_line(rowed, plan, rule, sigma, ground))
        problems = ingest(study.ledger, study.runs).problems
        if plan.name not in [screen.name for screen in find_screens(study)]:
            raise LedgerError(f"{plan.name} did not arrive in the ledger, so nothing was run: {'; '.join(problems)}")


def _as_line(rowed: Study, plan: ScreenPlan, rule: Rule, sigma: Sigma, ground: Ground) -> dict:
    """The journal's line of a screen."""
    seeds = choose_seeds(_taken_seeds(rowed, rule), len(plan.rows))
    bar, guard = screen_bar(rule, sigma)
    return {
        "screen": plan.name,
        "rule_digest": rule.digest(),
        "control_digest": ground.base.control_digest,
        "cache_id": ground.control.cache.cache_id,
        "evaluation_id": ground.base.evaluation_id,
        "sigma": sigma.value,
        "sigma_df": sigma.df,
        "bar": bar,
        "guard": guard,
        "levers": [
            {"lever": lever, "recipe_digest": ground.recipe_digest(lever, rowed.recipe(lever))} for lever in plan.levers
        ],
        "rows": [
            {
                "name": row,
                "seed": seed,
                "recipe_digest": ground.recipe_digest(row, rowed.recipe(row)),
                "levers": list(levers),
            }
            for seed, (row, levers) in zip(seeds, plan.rows.items(), strict=True)
        ],
        "weights": plan.weights.tolist(),
        "excluded": plan.excluded,
    }


def screen_bar(rule: Rule, sigma: Sigma) -> tuple[float, float]:
    """What an effect must exceed, in the metric's units, and how many pseudo standard errors."""
    assert rule.screen is not None
    return rule.screen.bar * (sigma.value if rule.screen.bar_unit == "sigma" else 1.0), rule.screen.guard


def _taken_seeds(study: Study, rule: Rule) -> set[int]:
    """The seeds that the rule looks at, at which anything has run, or that another screen has."""
    ran = read(study.ledger, "select seed from runs union select seed from screen_rows").rows
    return {*rule.control_seeds, *rule.judged_seeds, *(seed for (seed,) in ran)}


def train_screen(
    study: Study,
    screen: SealedScreen,
    where: Where,
    progress: Progress,
    announce: Callable[[list[PlannedRun]], None],
) -> Launched:
    """Train what the rows of a sealed screen lack, and bring it into the ledger.

    Raises StudyError where experiments.toml no longer describes the rows.
    """
    rows = {run.name: run.levers for run in screen.runs}
    gone = sorted({lever for levers in rows.values() for lever in levers if lever not in study.file.levers})
    if gone:
        raise StudyError(f"{screen.name} is sealed with {', '.join(gone)}, which experiments.toml no longer has. {BACK}")
    rowed = with_rows(study, rows)
    ground = open_ground(rowed, list(rows), where.device, progress)
    note_caches(rowed, ground)
    for run in screen.runs:
        if ground.recipe_digest(run.name, rowed.recipe(run.name)) != run.recipe_digest:
            raise StudyError(
                f"{run.name} is sealed with {', '.join(run.levers)} as they were then, and one of them has changed in "
                f"experiments.toml. {BACK}"
            )
    statuses = read_statuses(study)
    planned = []
    for run in screen.runs:
        run_id = identify(rowed, ground, run.name, run.seed)
        why, status = ", ".join(run.levers), statuses.get(run_id, "")
        planned.append(PlannedRun(Run(run_id, run.name, run.seed, rowed.recipe(run.name)), 0, why, status))
    return carry_out(rowed, ground, planned, where, progress, announce)


BACK = "Restore it there, or begin another screen: flowlab screen --new"


def solve_anew(study: Study, name: str) -> list[str]:
    """Weigh anew without the rows that were lost, on the record, if that was not done yet; what is to say about it."""
    with one_at_a_time(study.runs):
        ingest(study.ledger, study.runs)
        screen = _read_screen(study, name)
        if not screen.lost:
            return []
        kept = [run.name for run in screen.runs if run.is_weighed and not run.is_lost]
        without = [place for place, run in enumerate(screen.runs) if run.name not in kept]
        on = np.array([[lever in run.levers for lever in screen.levers] for run in screen.runs])
        weights = contrast_weights(on, without)
        told = np.isfinite(weights).all(axis=1)
        solutions = read(study.ledger, "select max(solution) from screen_weights where screen = ?", [name]).rows
        with StudyJournal.of(study.runs) as journal:
            journal.screen_weights(
                screen=name,
                solution=1 + solutions[0][0],
                levers=[lever for lever, is_told in zip(screen.levers, told, strict=True) if is_told],
                rows=kept,
                weights=np.delete(weights[told], without, axis=1).tolist(),
            )
        ingest(study.ledger, study.runs)
    return _told_loss(screen, [lever for lever, is_told in zip(screen.levers, told, strict=True) if not is_told])


def _told_loss(screen: SealedScreen, untold: Sequence[str]) -> list[str]:
    """What was lost, which levers were on in all of it, and which can no longer be told."""
    lost = [set(run.levers) for run in screen.runs if run.is_lost]
    always = [lever for lever in screen.levers if all(lever in on for on in lost)]
    told = f"{screen.name}: {len(lost)} rows crashed ({', '.join(screen.lost)}), the others are weighed anew"
    if len(lost) > 1 and always:
        told += f"; {', '.join(always)} was on in each of them"
    if untold:
        told += f"; no longer to be told from the others: {', '.join(untold)}"
    return [told]
