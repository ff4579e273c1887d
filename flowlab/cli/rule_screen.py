"""Rules on a terminal: what they ask, what they would do, what an amendment changes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from flowlab.cli.screen import out, plain, say, table, when
from flowlab.study.rule import Rule

if TYPE_CHECKING:
    from flowlab.lab.sealing import Foretold
    from flowlab.verdict.history import SealedRule
    from flowlab.verdict.rejudged import Rejudged

ERROR_RATES = {
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
"""What a simulation tells, in words."""


def show_foretold(foretold: "Foretold") -> None:
    """What a rule would do, before it is sealed."""
    rule, asked, rates = foretold.rule, foretold.asked, foretold.rates
    null, power = rates.null_stacked or 0.0, rates.power or 0.0
    known = "as measured here" if foretold.is_sigma_known else "assumed: this study has not measured its own yet"
    say(
        f"rule {rule.name!r} is about to be sealed. Simulated: sigma {asked.sigma:.4f} ({known}), rho 0\n"
        f"  a lever that does nothing is stacked in {null:.1%} of cases: "
        f"{null * asked.levers:.1f} of {asked.levers} such levers\n"
        f"  one that is {asked.effect:g} better is stacked in {power:.1%}, "
        f"and then reported {rates.overestimate or 0:+.4f} off\n"
        f"  {rates.runs / asked.levers:.1f} runs a lever, and {rates.control_runs} controls"
    )


def print_rule(rule: Rule, sealed: "SealedRule | None", history: "Sequence[SealedRule]") -> None:
    """Everything that a rule says, and what has become of it."""
    console = out()
    state = "not sealed"
    if sealed is not None:
        state = f"sealed {when(sealed.sealed_us)}, digest {sealed.digest}"
        state += ", in force" if sealed.is_in_force else f", amended away {when(sealed.amended_us or 0)}"
    console.print(Text.assemble(("rule ", ""), (plain(rule.name), "bold"), plain(f": {state}")), soft_wrap=True)
    console.print(f"primary: {rule.primary.shown()}; {rule.primary.direction} is better", soft_wrap=True, markup=False)
    stages = [
        [
            number,
            stage.name,
            "control at the same seed" if stage.statistic == "paired" else "panel mean",
            ", ".join(str(seed) for seed in rule.judged_seeds[stage.first_seed - 1 : stage.last_seed]),
            f"{stage.bar:g}" if stage.bar_unit == "metric" else f"{stage.bar:g} panel sd",
        ]
        for number, stage in enumerate(rule.stages, start=1)
    ]
    console.print(table(["stage", "name", "compared with", "seeds", "better by more than"], stages))
    for role, seeds in rule.roles().items():
        if seeds:
            console.print(f"{role} seeds: {', '.join(str(seed) for seed in seeds)}", soft_wrap=True)
    guards = [[guard.shown(), guard.direction, f"{guard.margin:g}"] for guard in rule.guardrails]
    console.print(table(["guardrail", "better", "worse than the panel by at most"], guards))
    if rule.evaluation is None:
        console.print("evaluation: decided by the cache, when the rule is sealed")
    else:
        told = ", ".join(f"{name} {value}" for name, value in rule.evaluation.items())
        console.print(f"evaluation: {told}", soft_wrap=True, markup=False)
    rates = ((sealed.simulated or {}) if sealed else {}).get("rates", {})
    if rates:
        rows = [[text, rates.get(name)] for name, text in ERROR_RATES.items()]
        console.print(table(["simulated before it was sealed", "value"], rows))
    for row in history:
        if row.reason is not None:
            line = f"{when(row.sealed_us)}: {row.rule.name} took the place of {row.amended_digest}: {row.reason}"
            console.print(line, soft_wrap=True, markup=False)


def print_rejudged(rows: "Sequence[Rejudged]") -> None:
    """Past levers under the rule that goes and the one that comes, flips marked."""
    if not rows:
        out().print("no lever was judged before: nothing to judge again")
        return
    names = (rows[0].amended_rule, next((row.rule for row in rows if row.rule), "the new rule"))
    cells = [
        [
            row.lever,
            f"{row.amended_outcome} at {row.amended_stage}",
            "not judged: evaluated in another way" if row.outcome is None else f"{row.outcome} at {row.stage}",
            "FLIPS" if row.flipped else "",
        ]
        for row in rows
    ]
    headers = ["lever", f"under {names[0]} (goes)", f"under {names[1]} (comes)", ""]
    out().print(table(headers, cells, "past levers under both rules, as if neither were post-hoc"))
    num_flipped = sum(row.flipped for row in rows)
    out().print(f"{num_flipped} of {len(rows)} levers flip", highlight=False)
