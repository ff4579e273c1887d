"""The rule as a report shows it: what it asks, how often it fools, how it was amended, and what is post-hoc."""

from dataclasses import dataclass
from typing import Any

from flowlab.core.figures import figure, share
from flowlab.report.campaign import Campaign, Record
from flowlab.study.rule import Rule
from flowlab.verdict.history import SealedRule
from flowlab.verdict.rule_words import COMPARED_WITH, ERROR_RATES, bar_text

SHARES = (
    "null_stacked",
    "null_error",
    "loud_stacked",
    "power",
    "power_error",
    "any_false_stack",
    "false_discovery_rate",
)
"""Rates that are shares of something, shown in percent."""
COUNTS = ("false_stacks", "runs", "screen_runs", "control_runs")


@dataclass(frozen=True)
class Told:
    """One rule, whole."""

    rule: Rule
    sealed: SealedRule | None  # None: as experiments.toml has it, not sealed
    stages: list[Record]
    guards: list[Record]
    seeds: list[tuple[str, str]]
    rates: list[tuple[str, str]]  # what, and the value as it is shown
    asked: str  # what was simulated
    amendments: list[Record]
    rejudged: list[Record]
    post_hoc: list[tuple[str, str]]  # lever and reason


def read_rule(campaign: Campaign) -> Told:
    """The rule in force, else the one that experiments.toml has."""
    sealed = campaign.rule_in_force
    rule = sealed.rule if sealed else campaign.study.rule
    simulated: dict[str, Any] = (sealed.simulated or {}) if sealed else {}
    rates, asked = simulated.get("rates", {}), simulated.get("asked", {})
    return Told(
        rule,
        sealed,
        [
            {
                "name": stage.name,
                "with": COMPARED_WITH[stage.statistic],
                "seeds": ", ".join(str(seed) for seed in rule.judged_seeds[stage.first_seed - 1 : stage.last_seed]),
                "bar": bar_text(stage.bar, stage.bar_unit),
                "above": "" if stage.stack_above is None else bar_text(stage.stack_above, stage.bar_unit),
            }
            for stage in rule.stages
        ],
        [
            {"what": guard.shown(), "better": guard.direction, "margin": f"{guard.margin:g}"}
            for guard in rule.guardrails
        ],
        [(role, ", ".join(str(seed) for seed in seeds)) for role, seeds in rule.roles().items() if seeds],
        [
            (words.strip(), _rate(name, rates[name]))
            for name, words in ERROR_RATES.items()
            if rates.get(name) is not None
        ],
        _asked(asked),
        campaign.ask("""
            select amendments.reason, amendments.time_us, old.name as old, new.name as new
            from amendments
            join rules as old on old.rule_digest = amendments.amended_digest
            join rules as new on new.rule_digest = amendments.rule_digest
            order by amendments.entry"""),
        campaign.ask("select * from rejudged order by amended_us, lever") if "amendments" in campaign.filled else [],
        [(row.lever, row.reason) for row in campaign.verdicts if "post-hoc" in row.reason],
    )


def _rate(name: str, value: float) -> str:
    if name in SHARES:
        return share(value)
    return f"{value:.1f}" if name in COUNTS else figure(value)


def _asked(asked: dict[str, Any]) -> str:
    """What was simulated, in a clause."""
    if not {"levers", "real", "effect", "sigma"} <= asked.keys():
        return ""
    return (
        f"{asked['levers']} levers, of which {asked['real']} are {asked['effect']:.2g} better, and seeds "
        f"{asked['sigma']:.2g} apart"
    )
