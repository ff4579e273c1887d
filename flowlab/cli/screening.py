"""`flowlab screen`: many levers at once, in rows that have about half of them on."""

from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from flowlab.cli.options import (
    AddressOption,
    Device,
    DeviceOption,
    Executor,
    ExecutorOption,
    JsonOption,
    StudyOption,
    open_study,
    parse_levers,
)
from flowlab.cli.runs import announce
from flowlab.cli.screen import Bars, figure, out, print_json, say, table
from flowlab.study.combining import solo_faults
from flowlab.study.study import Study

if TYPE_CHECKING:
    from flowlab.lab.screen_plan import ScreenPlan
    from flowlab.lab.screens import Noise
    from flowlab.study.rule import Rule

INTERACTING = 1.5
"""How many times what sigma makes of them the contrasts may scatter before it is said that levers interact."""


def screen(
    levers: Annotated[
        str | None, typer.Option(help="Levers with commas between them; without it, all that are open.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Rows, each of them a run; without it, some five more than levers.")
    ] = None,
    same_shape: Annotated[
        bool, typer.Option("--same-shape", help="Leave out levers whose runs do not train as one program.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the screen; build, seal and train nothing.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Begin another screen, of levers that none has told yet.")] = False,
    study: StudyOption = None,
    device: DeviceOption = Device.auto,
    executor: ExecutorOption = Executor.auto,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try many levers at once, in rows that have about half of them on; what shows is confirmed alone."""
    found = open_study(study)
    asked = None if levers is None else parse_levers(levers, found, "--levers")

    from flowlab.cli.rule_screen import show_foretold
    from flowlab.lab.screening import run_screen
    from flowlab.lab.where import Where
    from flowlab.verdict.record import record_decisions

    if dry_run:
        _show_only(found, asked, rows, same_shape, new, as_json)
        return
    name, launched = run_screen(
        found,
        asked,
        rows,
        Where.chosen(device.value, executor.value, address),
        same_shape=same_shape,
        new=new,
        progress=Bars(),
        show=show_foretold,
        show_plan=lambda plan, rule, noise: None if as_json else _print_plan(plan, rule, noise),
        announce=announce,
    )
    for problem in launched.problems:
        say(f"warning: {problem}")
    record_decisions(found.runs, found.ledger)
    if as_json:
        print_json(_result(found, name) | {"runs": launched.run_ids, "trained": launched.trained})
    else:
        _print_result(found, name)


def _show_only(
    study: Study, asked: list[str] | None, rows: int | None, same_shape: bool, new: bool, as_json: bool
) -> None:
    """What `flowlab screen` would do: the screen that it would seal, or how far the sealed one is."""
    from flowlab.cli.judge import ingest_all
    from flowlab.lab.screening import plan_next
    from flowlab.lab.screens import current_screen, known_noise, require_screens

    require_screens(study.rule)
    if study.ledger.exists():
        ingest_all(study)
    begun = None if new else current_screen(study, asked, rows)
    if begun is not None:
        print_json(_result(study, begun.name)) if as_json else _print_result(study, begun.name)
        return
    plan = plan_next(study, asked, rows, same_shape=same_shape)
    noise = known_noise(study, study.rule)
    print_json(_as_json(plan, study.rule, noise)) if as_json else _print_plan(plan, study.rule, noise)


def _as_json(plan: "ScreenPlan", rule: "Rule", noise: "Noise") -> dict[str, Any]:
    from flowlab.lab.screens import screen_bar

    bar, guard = screen_bar(rule, noise)
    return {
        "screen": plan.name,
        "levers": plan.levers,
        "excluded": plan.excluded,
        "conflicts": [{"levers": pair, "reason": why} for pair, why in plan.conflicts.items()],
        "design": plan.design.kind,
        "rows": plan.rows,
        "caches": plan.num_caches,
        "sigma": noise.sigma,
        "sigma_df": noise.df,
        "se": dict(zip(plan.levers, _errors(plan, noise), strict=True)),
        "bar": bar,
        "guard": guard,
    }


def _errors(plan: "ScreenPlan", noise: "Noise") -> list[float]:
    """The standard error of each lever's effect."""
    return (noise.sigma * np.sqrt((plan.weights**2).sum(axis=1))).tolist()


def _print_plan(plan: "ScreenPlan", rule: "Rule", noise: "Noise") -> None:
    """A screen before it is sealed: who is in and who is not, what it costs, how precisely it tells."""
    from flowlab.lab.screens import screen_bar

    console = out()
    if plan.excluded:
        console.print(table(["left out", "why"], [list(row) for row in plan.excluded.items()]))
    if plan.conflicts:
        pairs = [[*pair, why] for pair, why in plan.conflicts.items()]
        console.print(table(["never on together", "with", "why"], pairs))
    errors = _errors(plan, noise)
    low, high = figure(min(errors)), figure(max(errors))
    spread = low if max(errors) < 1.005 * min(errors) else f"{low} to {high}"
    known = (
        f"measured with {noise.df} degrees of freedom" if noise.df else "assumed: this study has not measured it yet"
    )
    (bar, guard), num_on = screen_bar(rule, noise), plan.design.on.sum(axis=1)
    num = plan.num_caches
    caches = f"{num} cache{'s' if num > 1 else ''} beside the control's" if num else "the control's cache serves all"
    console.print(
        f"{plan.name}: {len(plan.levers)} levers in {plan.design.num_rows} rows ({plan.design.kind}), "
        f"{num_on.min()} to {num_on.max()} of them on in each; {plan.design.num_rows} runs, each at a seed of its own; "
        f"{caches}\n"
        f"standard error of an effect: {spread}, at sigma {figure(noise.sigma)} ({known})\n"
        f"a lever goes on that is more than {figure(bar)} better, and than {guard:g} times the contrasts' own spread",
        soft_wrap=True,
    )


def _result(study: Study, name: str) -> dict[str, Any]:
    """What a screen says by now, and what is owed next."""
    from flowlab.lab.screens import read_screen
    from flowlab.ledger.connection import read
    from flowlab.verdict.judge import read_owed

    sealed = read_screen(study, name)
    question = "select * from screen_effects where screen = ? order by effect desc nulls last, position"
    effects = read(study.ledger, question, [name]).records()
    owed = read_owed(study.ledger, effects[0]["rule_digest"], effects[0]["base_id"])
    return {
        "screen": name,
        "levers": sealed.levers,
        "excluded": sealed.excluded,
        "rows": {run.name: {"seed": run.seed, "levers": run.levers, "status": run.status} for run in sealed.runs},
        "is_finished": sealed.is_finished,
        "effects": effects,
        "owed": [f"{run.lever}@{run.seed}" for run in owed],
    }


def _print_result(study: Study, name: str) -> None:
    found = _result(study, name)
    effects, console = found["effects"], out()
    cells = [
        [of["lever"], of["effect"], of["se"], of["needed"], {True: "goes on", False: "not shown"}.get(of["goes_on"])]
        for of in effects
    ]
    ended = sum(row["status"] in ("finished", "crashed") for row in found["rows"].values())
    title = f"{name}: {ended} of {len(found['rows'])} rows have ended; above 0 is better"
    console.print(table(["lever", "effect", "standard error", "needed", ""], cells, title))
    if not found["is_finished"]:
        console.print("effects are told once all rows are there: flowlab screen goes on", soft_wrap=True)
        return
    _tell_interactions(effects)
    on = [of["lever"] for of in effects if of["goes_on"] and of["is_first"]]
    if on:
        console.print(
            f"{', '.join(on)} {'goes' if len(on) == 1 else 'go'} on, each to be confirmed alone at fresh seeds. Its "
            f"effect here flatters: it was selected by it",
            soft_wrap=True,
        )
    else:
        console.print("no lever goes on: none is shown to help at this budget", soft_wrap=True)
    if found["owed"]:
        console.print(f"owed next, {len(found['owed'])} runs: flowlab run --owed", soft_wrap=True)
    others = [lever for lever in study.open_levers if lever not in {*found["levers"], *found["excluded"]}]
    others = [lever for lever in others if lever not in solo_faults(study, others)]
    if others:
        console.print(f"not in this screen: {', '.join(others)}", soft_wrap=True)


def _tell_interactions(effects: list[dict[str, Any]]) -> None:
    """Say so where the contrasts scatter by much more than the seeds alone would make them."""
    told = [of["se"] for of in effects if of["effect"] is not None]
    pse = effects[0]["pse"]
    if told and pse and pse > INTERACTING * median(told):
        out().print(
            f"interactions: the contrasts scatter {pse / median(told):.1f} times as much as sigma makes them (by "
            f"{figure(pse)}), so an effect here may be that of others together: confirm one at a time",
            soft_wrap=True,
        )
