"""Rules on a terminal: what they ask, what they would do, what an amendment changes."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from flowlab.cli.screen import figure, out, plain, say, share, show, table, when
from flowlab.study.lever import flat_keys
from flowlab.study.rule import Rule
from flowlab.verdict.rule_words import COMPARED_WITH, ERROR_RATES, bar_text

if TYPE_CHECKING:
    from flowlab.lab.sealing import Foretold
    from flowlab.verdict.history import SealedRule
    from flowlab.verdict.rejudged import Rejudged


def show_foretold(foretold: "Foretold") -> None:
    """What a rule would do, before it is sealed: at the sigma that is known, and at both ends of its interval."""
    rule, asked, measured = foretold.rule, foretold.asked, foretold.measured
    say(f"rule {rule.name!r} is about to be sealed")
    if measured is not None and foretold.is_sigma_known:
        say(
            f"  sigma {figure(measured.value)}, measured on {measured.df + 1} controls: {measured.df} degrees of "
            f"freedom, 95% {figure(measured.low)} to {figure(measured.high)}"
        )
    else:
        so_far = "" if measured is None else f"; {measured.df + 1} controls are too few to tell it"
        say(f"  sigma {figure(asked.sigma)} is assumed, the published campaign's{so_far}")
    say(f"  {bars_in_sigma(rule, asked.sigma)}")
    columns = sorted([(asked.sigma, foretold.rates), *foretold.at_ends], key=lambda column: column[0])
    num_null = asked.levers - asked.real
    rows = {
        "if the true sigma is": [figure(sigma) for sigma, _ in columns],
        "a lever that does nothing is stacked in": [share(rates.null_stacked) for _, rates in columns],
        f"one at least of {num_null} such, P(any)": [share(rates.any_false_stack) for _, rates in columns],
        f"one that is {asked.effect:.2g} better is stacked in": [share(rates.power) for _, rates in columns],
        "  and is then told too good by": [show(rates.overestimate) for _, rates in columns],
    }
    for what, values in rows.items():
        say(f"  {what:<41}" + "".join(f"{value:>9}" for value in values))
    rates = foretold.rates
    say(f"  {rates.runs / asked.levers:.1f} runs a lever, and {len(rule.control_seeds)} controls")


COARSE, FINE = 4.0, 0.5
"""Bars of more, or fewer, sigma than this are worth a word before they are sealed."""


def bars_in_sigma(rule: Rule, sigma: float) -> str:
    """How large a rule's bars are beside the seeds' luck; and what is odd about them, if something is."""
    sizes = {"metric": 1.0, "panel-sd": sigma, "sigma": rule.sigma.value if rule.sigma else sigma}
    bars = sorted(stage.bar * sizes[stage.bar_unit] for stage in rule.stages)
    low, high = bars[0] / sigma, bars[-1] / sigma
    many = f"{bars[0]:.2g} to {bars[-1]:.2g}, which is {low:.2g} to {high:.2g}"
    told = f"its bars are {many} sigma" if len(bars) > 1 else f"its bar is {bars[0]:.2g}, which is {low:.2g} sigma"
    if low > COARSE:
        return (
            f"{told}: far above the seeds' luck, so what is worth less\n"
            f'  is never stacked, however many seeds. Smaller ones: bars = "sigma" in rules.{rule.name}'
        )
    if high < FINE:
        return f'{told}: the seeds\' luck alone passes it\n  often. Larger ones: bars = "sigma" in rules.{rule.name}'
    return told


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
            COMPARED_WITH[stage.statistic],
            ", ".join(str(seed) for seed in rule.judged_seeds[stage.first_seed - 1 : stage.last_seed]),
            bar_text(stage.bar, stage.bar_unit),
            None if stage.stack_above is None else bar_text(stage.stack_above, stage.bar_unit),
        ]
        for number, stage in enumerate(rule.stages, start=1)
    ]
    columns = ["stage", "name", "compared with", "seeds", "dropped up to", "stacks at once above"]
    if not any(stage.stack_above is not None for stage in rule.stages):
        stages, columns = [row[:-1] for row in stages], [*columns[:-2], "better by more than"]
    if rule.screen is not None:
        bar = bar_text(rule.screen.bar, rule.screen.bar_unit)
        console.print(
            f"first a screen: an effect of more than {bar}, and than {rule.screen.guard:g} pseudo standard errors of "
            f"all contrasts, sends a lever on",
            soft_wrap=True,
        )
    console.print(table(columns, stages))
    if rule.sigma is not None:
        console.print(f"sigma: {rule.sigma.value:.4g}, measured with {rule.sigma.df} degrees of freedom")
    if rule.rho is not None:
        console.print(f"rho: {rule.rho:g}, from {rule.rho_from}", soft_wrap=True, markup=False)
    for role, seeds in rule.roles().items():
        if seeds:
            console.print(f"{role} seeds: {', '.join(str(seed) for seed in seeds)}", soft_wrap=True)
    guards = [[guard.shown(), guard.direction, f"{guard.margin:g}"] for guard in rule.guardrails]
    console.print(table(["guardrail", "better", "worse than the panel by at most"], guards))
    if rule.evaluation is None:
        console.print("evaluation: decided by the cache, when the rule is sealed")
    else:
        plainly = {name: value for name, value in rule.evaluation.items() if not isinstance(value, dict)}
        told = ", ".join(f"{name} {_word(value)}" for name, value in plainly.items())
        console.print(f"evaluation: {told}", soft_wrap=True, markup=False)
        for line in _slice_lines(rule.evaluation):
            console.print(line, soft_wrap=True, markup=False)
    rates = ((sealed.simulated or {}) if sealed else {}).get("rates", {})
    if rates:
        rows = [[text, rates.get(name)] for name, text in ERROR_RATES.items()]
        console.print(table(["simulated before it was sealed", "value"], rows))
    for row in history:
        if row.reason is not None:
            line = f"{when(row.sealed_us)}: {row.rule.name} took the place of {row.amended_digest}: {row.reason}"
            console.print(line, soft_wrap=True, markup=False)


def _slice_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """A line for each slice that numbers are taken over, and for each other table of an evaluation."""
    metrics = evaluation.get("metrics", {})
    tables = {f"slice {name}": table for name, table in metrics.get("slices", {}).items()}
    tables |= {name: table for name, table in evaluation.items() if isinstance(table, dict) and name != "metrics"}
    told = {name: [f"{key} {_word(value)}" for key, value in flat_keys(table)] for name, table in tables.items()}
    return [f"{name}: {', '.join(keys)}" for name, keys in told.items()]


def _word(value: Any) -> str:
    """A setting as experiments.toml has it, texts without their quotes."""
    return value if isinstance(value, str) else json.dumps(value)


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
