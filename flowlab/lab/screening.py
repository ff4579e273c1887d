"""Screens: sealed whole before any of it runs, trained as levers are, solved anew where rows crashed.

What a screen says is the view screen_effects; nothing here computes an effect.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flowlab.core.errors import LedgerError, StudyError
from flowlab.core.progress import Progress
from flowlab.journal.lines import StudyJournal
from flowlab.lab.ground import Ground, open_ground
from flowlab.lab.launch import (
    Launched,
    carry_out,
    note_caches,
    read_statuses,
    recipes_by_cache,
    require_trainable,
    stand_calibrated,
)
from flowlab.lab.plan import PlannedRun, identify
from flowlab.lab.screen_plan import ScreenPlan, choose_levers, choose_seeds, plan_screen
from flowlab.lab.screens import (
    Noise,
    SealedScreen,
    current_screen,
    find_screens,
    known_noise,
    next_number,
    read_screen,
    require_screens,
    screen_bar,
    screened_levers,
)
from flowlab.lab.sealing import Show
from flowlab.lab.where import Where
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.combining import with_rows
from flowlab.study.rule import Rule
from flowlab.study.study import Study
from flowlab.train.cohort import Run
from flowlab.verdict.design import contrast_weights
from flowlab.verdict.seal import one_at_a_time, rules_in_force

ShowPlan = Callable[[ScreenPlan, Rule, Noise], None]


def run_screen(
    study: Study,
    asked: Sequence[str] | None,
    num_rows: int | None,
    where: Where,
    *,
    same_shape: bool,
    new: bool,
    progress: Progress,
    show: Show,
    show_plan: ShowPlan,
    announce: Callable[[list[PlannedRun]], None],
) -> tuple[str, Launched]:
    """The screen's name and what was trained of it now: the one that is not finished, else another, sealed first.

    `asked`: levers, or None for all that are open. Raises StudyError, before anything is built, for a screen that
    cannot be.
    """
    require_screens(study.rule)
    begun = None if new else current_screen(study, asked, num_rows)
    plan = None if begun else plan_next(study, asked, num_rows, same_shape=same_shape)
    ground, calibrated = stand_calibrated(study, (), where, progress=progress, show=show, announce=announce)
    begun = None if new else current_screen(study, asked, num_rows)
    if begun is None:
        plan = plan or plan_next(study, asked, num_rows, same_shape=same_shape)
        rule = rules_in_force(study.ledger)[-1].rule
        noise = known_noise(study, rule, ground.base.base_id)
        show_plan(plan, rule, noise)
        seal_screen(study, plan, noise, where, progress)
        begun = read_screen(study, plan.name)
    launched = Launched([], [], [])
    if any(run.waits for run in begun.runs):
        launched = train_screen(study, begun, where, progress, announce)
    problems = [*launched.problems, *solve_anew(study, begun.name)]
    return begun.name, Launched(launched.run_ids, calibrated + launched.trained, problems)


def plan_next(study: Study, asked: Sequence[str] | None, num_rows: int | None, *, same_shape: bool) -> ScreenPlan:
    """The study's next screen, of those of the levers that were in none yet. Raises as `plan_screen` does."""
    wanted = study.open_levers if asked is None else asked
    levers, excluded = choose_levers(study, wanted, screened_levers(study), same_shape=same_shape)
    return plan_screen(study, next_number(study), levers, excluded, num_rows)


def seal_screen(study: Study, plan: ScreenPlan, noise: Noise, where: Where, progress: Progress) -> None:
    """Put the screen on record, whole, once its caches are there and each row is known to be trainable.

    Raises a FlowlabError, with nothing sealed, for a row that is not; StudyError if another process was quicker.
    """
    rowed = with_rows(study, plan.rows)
    ground = open_ground(rowed, [*plan.levers, *plan.rows], where.device, progress)
    note_caches(rowed, ground)
    for cache, recipes in recipes_by_cache(ground, [(row, rowed.recipe(row)) for row in plan.rows]):
        require_trainable(cache, recipes, where.device)
    with one_at_a_time(study.runs):
        ingest(study.ledger, study.runs)
        if f"screen{next_number(study)}" != plan.name:
            raise StudyError(f"another process has just sealed {plan.name}. Give the command again to go on with it.")
        rule = rules_in_force(study.ledger)[-1].rule
        with StudyJournal.of(study.runs) as journal:
            journal.screen(**_as_line(rowed, plan, rule, noise, ground))
        problems = ingest(study.ledger, study.runs).problems
        if plan.name not in [screen.name for screen in find_screens(study)]:
            raise LedgerError(f"{plan.name} did not arrive in the ledger, so nothing was run: {'; '.join(problems)}")


def _as_line(rowed: Study, plan: ScreenPlan, rule: Rule, noise: Noise, ground: Ground) -> dict[str, Any]:
    """The journal's line of a screen."""
    seeds = choose_seeds(_taken_seeds(rowed, rule), len(plan.rows))
    bar, guard = screen_bar(rule, noise)
    return {
        "screen": plan.name,
        "rule_digest": rule.digest(),
        "control_digest": ground.base.control_digest,
        "cache_id": ground.control.cache.cache_id,
        "evaluation_id": ground.base.evaluation_id,
        "sigma": noise.sigma,
        "sigma_df": noise.df,
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
        raise StudyError(
            f"{screen.name} is sealed with {', '.join(gone)}, which experiments.toml no longer has. {BACK}"
        )
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
        why, status = f"{len(run.levers)} levers on", statuses.get(run_id, "")
        planned.append(PlannedRun(Run(run_id, run.name, run.seed, rowed.recipe(run.name)), 0, why, status))
    return carry_out(rowed, ground, planned, where, progress, announce)


BACK = "Restore it there, or begin another screen: flowlab screen --new"


def solve_anew(study: Study, name: str) -> list[str]:
    """Weigh anew without the rows that were lost, on the record, if that was not done yet; what is to say about it."""
    with one_at_a_time(study.runs):
        ingest(study.ledger, study.runs)
        screen = read_screen(study, name)
        if not screen.lost:
            return []
        kept = [run.name for run in screen.runs if run.is_weighed and not run.is_lost]
        without = [place for place, run in enumerate(screen.runs) if run.name not in kept]
        on = np.array([[lever in run.levers for lever in screen.levers] for run in screen.runs])
        weights = contrast_weights(on, without)
        told = np.isfinite(weights).all(axis=1)
        untold = [screen.levers[place] for place in np.flatnonzero(~told)]
        if not told.any():
            return [f"{name}: so many rows crashed that none of its levers can be told. {BACK}"]
        solutions = read(study.ledger, "select max(solution) from screen_weights where screen = ?", [name]).rows
        with StudyJournal.of(study.runs) as journal:
            journal.screen_weights(
                screen=name,
                solution=1 + solutions[0][0],
                levers=[lever for lever in screen.levers if lever not in untold],
                rows=kept,
                weights=np.delete(weights[told], without, axis=1).tolist(),
            )
        ingest(study.ledger, study.runs)
    return _told_loss(screen, untold)


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
