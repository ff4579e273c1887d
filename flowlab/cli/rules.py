"""`flowlab rule`: what is registered, and how often it would fool you."""

from dataclasses import asdict
from typing import Annotated

import typer

from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, out, print_json, table
from flowlab.core.errors import StudyError, unknown_name
from flowlab.study.rule import PRESETS, Rule, preset_rule, write_out
from flowlab.study.study import Study


def rule_list(study: StudyOption = None, as_json: JsonOption = False) -> None:
    """The study's rules, which of them judges, and which are sealed."""
    from flowlab.cli.judge import ingest_all
    from flowlab.ledger.connection import read

    found = open_study(study)
    ingest_all(found)
    sealed = {row["rule_digest"] for row in read(found.ledger, "select * from rules").records()}
    rules = [write_out(name, settings, found.file.study.primary) for name, settings in found.file.rules.items()]
    records = [
        {
            "rule": rule.name,
            "judges": rule.name == found.rule.name,
            "sealed": rule.digest() in sealed,
            "panel_seeds": len(rule.panel_seeds),
            "judged_seeds": len(rule.judged_seeds),
            "stages": [stage.name for stage in rule.stages],
            "guardrails": len(rule.guardrails),
        }
        for rule in rules
    ]
    if as_json:
        print_json(records)
        return
    rows = [[", ".join(value) if isinstance(value, list) else value for value in row.values()] for row in records]
    out().print(table(list(records[0]), rows, f"rules of study {found.name}"))


def rule_simulate(
    preset: Annotated[str | None, typer.Option(help=f"A rule that needs no study: {', '.join(PRESETS)}.")] = None,
    rule: Annotated[str | None, typer.Option(help="A rule of the study instead, by its name.")] = None,
    controls: Annotated[int, typer.Option(min=2, max=1000, help="Control seeds in the panel of the preset.")] = 8,
    levers: Annotated[int, typer.Option(min=1, max=10_000, help="Levers per campaign.")] = 35,
    real: Annotated[int, typer.Option(min=0, help="How many of them have an effect.")] = 0,
    effect: Annotated[
        float, typer.Option(help="That effect, in the primary metric's units; above 0 is better.")
    ] = 0.02,
    sigma: Annotated[float, typer.Option(min=0.0, help="Standard deviation of a run's value over seeds.")] = 0.014,
    rho: Annotated[float, typer.Option(min=0.0, max=1.0, help="Correlation of lever and control at one seed.")] = 0.0,
    spread: Annotated[
        float, typer.Option(min=0.0, max=3.0, help="Levers' own sigmas: sigma times exp(spread x normal).")
    ] = 0.0,
    campaigns: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many campaigns to simulate.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same answer.")] = 0,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """How often a rule stacks a lever that does nothing, and how often it finds one that does; before it is sealed."""
    from flowlab.verdict.simulate import Campaigns, simulate

    if (preset is None) == (rule is None):
        raise StudyError("give either --preset or --rule, and not both. Example: flowlab rule simulate --preset fresh")
    if real > levers:
        raise StudyError(f"--real got {real}, expected --levers ({levers}) or less.")
    chosen = _preset(preset, controls) if preset is not None else _of_study(rule or "", open_study(study))
    asked = Campaigns(levers, real, effect, sigma, rho, spread, campaigns, seed)
    rates = simulate(chosen, asked, Bars())
    if as_json:
        print_json({"rule": chosen.name, **asdict(asked), **asdict(rates)})
        return
    rows = [[what, value] for what, value in _told(asdict(rates))]
    title = (
        f"rule {chosen.name}: {campaigns:,} campaigns of {levers} levers, {real} of them {effect:g} better, "
        f"sigma {sigma:g}, rho {rho:g}"
    )
    out().print(title, soft_wrap=True)
    out().print(table(["what", "value"], rows))
    if chosen.guardrails:
        out().print("guardrails are left out: what a lever does elsewhere is not simulated")


def _preset(name: str, controls: int) -> Rule:
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS, "--preset")
    return preset_rule(name, controls)


def _of_study(name: str, found: Study) -> Rule:
    if name not in found.file.rules:
        raise unknown_name("rule", name, found.file.rules, "--rule")
    return write_out(name, found.file.rules[name], found.file.study.primary)


def _told(rates: dict) -> list[tuple[str, object]]:
    """The error rates in words."""
    words = {
        "null_stacked": "a lever without effect is stacked",
        "power": "a real lever is stacked (power)",
        "false_stacks": "false stacks expected per campaign",
        "any_false_stack": "campaigns with at least one false stack",
        "false_discovery_rate": "false among all that is stacked",
        "reported_effect": "mean effect reported of stacked real levers",
        "overestimate": "  by so much too large",
        "runs": "lever runs per campaign",
        "control_runs": "control runs per campaign",
    }
    return [(text, rates[name]) for name, text in words.items()]
