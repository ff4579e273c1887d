"""`flowlab rule simulate`: how often a rule would fool you, and what it would find."""

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.rule_screen import ERROR_RATES
from flowlab.cli.rules import of_study
from flowlab.cli.screen import Bars, out, print_json, table
from flowlab.core.errors import StudyError, unknown_name
from flowlab.study.rule import PRESETS, Rule, preset_rule

if TYPE_CHECKING:
    from flowlab.verdict.campaigns import Campaigns
    from flowlab.verdict.panel_size import PanelSize
    from flowlab.verdict.simulate import ErrorRates

LARGEST = 1000.0  # of the numbers that a simulation takes
MOST_SCREENED = 200  # levers; a screen has a weight for each lever and row of each campaign
ONLY_SCREENS = ("overlap", "interactions", "real_interactions", "rows")


class Noise(StrEnum):
    normal = "normal"
    t3 = "t3"


class Judged(StrEnum):
    inside = "inside"
    outside = "outside"


def rule_simulate(
    preset: Annotated[str | None, typer.Option(help=f"A rule that needs no study: {', '.join(PRESETS)}.")] = None,
    rule: Annotated[str | None, typer.Option(help="A rule of the study instead, by its name.")] = None,
    controls: Annotated[int, typer.Option(min=2, max=1000, help="Control seeds in the panel of the preset.")] = 8,
    judged: Annotated[
        Judged | None, typer.Option(help="Judge at seeds of the preset's panel, or at others; else as it does.")
    ] = None,
    levers: Annotated[int, typer.Option(min=1, max=10_000, help="Levers per campaign.")] = 35,
    real: Annotated[int, typer.Option(min=0, help="How many of them have an effect.")] = 0,
    effect: Annotated[
        float, typer.Option(help="That effect, in the primary metric's units; above 0 is better.")
    ] = 0.02,
    sigma: Annotated[float, typer.Option(min=0.0, help="Standard deviation of a run's value over seeds.")] = 0.014,
    sealed_df: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Bars in a sigma that each campaign measured with so many degrees."),
    ] = None,
    noise: Annotated[Noise, typer.Option(help="Of seeds: normal, or Student's t of 3 degrees.")] = Noise.normal,
    rho: Annotated[float, typer.Option(min=0.0, max=1.0, help="Correlation of lever and control at one seed.")] = 0.0,
    half_rho: Annotated[
        bool, typer.Option("--half-rho", help="Only every other lever without effect has that correlation.")
    ] = False,
    spread: Annotated[
        float, typer.Option(min=0.0, max=3.0, help="Levers' own sigmas: sigma times exp(spread x normal).")
    ] = 0.0,
    loud: Annotated[
        float, typer.Option(min=0.0, max=100.0, help="So many times sigma is that of the loud levers.")
    ] = 1.0,
    num_loud: Annotated[
        int | None, typer.Option(min=0, help="Levers without effect that are loud; 1 where --loud is given.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Of a screen; without it, some five more than levers.")
    ] = None,
    overlap: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="In a screen: the share that a second real lever is worth less.")
    ] = 0.0,
    interactions: Annotated[
        float, typer.Option(min=0.0, help="In a screen: sd of what each two levers add that are on together.")
    ] = 0.0,
    real_interactions: Annotated[
        float, typer.Option(min=0.0, help="In a screen: the same, of two real levers only.")
    ] = 0.0,
    campaigns: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many campaigns to simulate.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same answer.")] = 0,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """How often a rule stacks a lever that does nothing, and how often it finds one that does; before it is sealed."""
    from flowlab.verdict.campaigns import Campaigns
    from flowlab.verdict.panel_size import try_panel_sizes
    from flowlab.verdict.simulate import simulate

    if (preset is None) == (rule is None):
        raise StudyError("give either --preset or --rule, and not both. Example: flowlab rule simulate --preset fresh")
    if rule is not None and judged is not None:
        raise StudyError("--judged is of presets: a rule of the study says at which seeds it judges. Leave it out.")
    chosen = of_study(rule, open_study(study)) if rule is not None else _preset(preset or "", controls, judged)
    asked = Campaigns(
        levers=levers, real=real, effect=effect, sigma=sigma, rho=rho, spread=spread, campaigns=campaigns, seed=seed,
        noise=noise.value, loud=loud, num_loud=int(loud != 1.0) if num_loud is None else num_loud, half_rho=half_rho,
        sealed_df=sealed_df, overlap=overlap, interactions=interactions, real_interactions=real_interactions, rows=rows,
    )  # fmt: skip
    _require_sense(chosen, asked)
    bars = Bars()
    rates = simulate(chosen, asked, bars)
    tried = [] if chosen.screen is not None else try_panel_sizes(chosen, asked, bars)
    if as_json:
        print_json(_json_of(chosen, asked, rates, tried))
    else:
        _print(chosen, asked, rates, tried)


def _preset(name: str, controls: int, judged: Judged | None) -> Rule:
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS, "--preset")
    return preset_rule(name, controls, inside=None if judged is None else judged is Judged.inside)


def _require_sense(rule: Rule, asked: "Campaigns") -> None:
    """Raises StudyError for numbers that no campaign has, and for those that this rule would not see."""
    given = asdict(asked)
    for name in ("effect", "sigma", "rho", "spread", "interactions", "real_interactions"):
        if not abs(given[name]) <= LARGEST:
            option = name.replace("_", "-")
            raise StudyError(f"--{option} got {given[name]}, expected a number from {-LARGEST:g} to {LARGEST:g}.")
    if asked.real > asked.levers:
        raise StudyError(f"--real got {asked.real}, expected --levers ({asked.levers}) or less.")
    if asked.real + asked.num_loud > asked.levers:
        raise StudyError(
            f"--num-loud got {asked.num_loud}, expected {asked.levers - asked.real} or less: so many of --levers "
            f"({asked.levers}) are not --real ({asked.real})."
        )
    if asked.sealed_df is not None and not asked.sigma:
        raise StudyError("--sealed-df with --sigma 0: no bar is a multiple of a sigma of 0. Give a larger --sigma.")
    if rule.screen is None:
        for name in ONLY_SCREENS:
            if given[name]:
                raise StudyError(
                    f"--{name.replace('_', '-')} is of levers that are on together, and rule {rule.name!r} looks at "
                    f"one at a time. Use --preset screen."
                )
    elif asked.levers > MOST_SCREENED:
        raise StudyError(
            f"--levers got {asked.levers}, expected {MOST_SCREENED} or less in a screen that is simulated."
        )


def _json_of(rule: Rule, asked: "Campaigns", rates: "ErrorRates", tried: "list[PanelSize]") -> dict:
    from flowlab.verdict.panel_size import recommend_size

    told = {"rule": rule.name, **asdict(asked), **asdict(rates), "panel_sizes": [asdict(size) for size in tried]}
    return told | {"recommended_controls": recommend_size(tried) if tried else None}


def _print(rule: Rule, asked: "Campaigns", rates: "ErrorRates", tried: "list[PanelSize]") -> None:
    from flowlab.verdict.panel_size import recommend_size

    out().print(
        f"rule {rule.name}: {asked.campaigns:,} campaigns of {asked.levers} levers, {asked.real} of them "
        f"{asked.effect:g} better, sigma {asked.sigma:g}, rho {asked.rho:g}",
        soft_wrap=True,
    )
    found = asdict(rates)
    kept = [name for name in ERROR_RATES if name not in ("loud_stacked", "screen_runs") or found[name]]
    out().print(table(["what", "value"], [[ERROR_RATES[name], found[name]] for name in kept]))
    if rule.screen is not None:
        out().print("other sizes of panel are not tried: a screen spends its runs on rows", soft_wrap=True)
    else:
        sizes = [[size.controls, size.null_stacked, size.false_stacks, size.power] for size in tried]
        what = ["controls", "a lever without effect is stacked", "false stacks per campaign", "a real lever is stacked"]
        out().print(table(what, sizes))
        out().print(
            f"recommended: a panel of {recommend_size(tried)}; one twice as large would spare a campaign less than "
            f"half a false stack, or was not tried",
            soft_wrap=True,
        )
    if rule.guardrails:
        out().print("guardrails are left out: what a lever does elsewhere is not simulated")
