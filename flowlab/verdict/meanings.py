"""What verdicts are worth, in a few lines below them: how often the rule is wrong, and what sigma rests on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowlab.core.figures import figure, share
from flowlab.study.rule import Rule

if TYPE_CHECKING:
    from flowlab.verdict.history import SealedRule
    from flowlab.verdict.judge import Verdict


def meanings(ledger: Path, sealed: "SealedRule", rows: "Sequence[Verdict]") -> list[str]:
    """The lines for the verdicts of one rule on one base."""
    simulated = sealed.simulated or {}
    if not simulated.keys() >= {"rates", "asked"}:  # sealed without, or by an early flowlab
        simulated = {}
    decisions = [row.decision for row in rows]
    lines = []
    if "stack" in decisions and simulated:
        lines += _of_stacks(simulated, decisions)
    lines += _of_effects(ledger, rows)
    if "drop" in decisions:
        missed = ""
        power = simulated["rates"].get("power") if simulated else None
        if power is not None:
            missed = (
                f"; this rule drops one that is {simulated['asked']['effect']:.2g} better in {1 - power:.0%} of cases"
            )
        lines.append(f"drop: not shown at this budget{missed}")
    return lines + _of_sigma(ledger, sealed.rule, sealed.digest, rows[0].base_id)


def _of_stacks(simulated: dict[str, Any], decisions: Sequence[str]) -> list[str]:
    rates = simulated["rates"]
    null = rates.get("null_stacked")
    if null is None:
        return []
    judged, stacked = len(decisions), decisions.count("stack")
    flattered = flattery(rates)
    told = f"; its effect is selected, and {flattered}" if flattered else ""
    return [
        f"stack: this rule stacks {share(null)} of levers that do nothing: of the {judged} judged here {stacked} "
        f"{'is' if stacked == 1 else 'are'} stacked, and up to {null * judged:.2g} such are expected{told}"
    ]


def flattery(rates: dict[str, Any]) -> str:
    """By how much effects of stacked levers are told too large, by the rule's simulation; "" where it does not say."""
    too_large = rates.get("overestimate")
    if too_large is None:
        return ""
    return f"flattered by about {figure(too_large)}" if too_large > 0 else "hardly flattered"


def _of_effects(ledger: Path, rows: "Sequence[Verdict]") -> list[str]:
    """What stacked levers are worth at seeds that nothing selected them by, where these have run."""
    from flowlab.ledger.connection import read

    question = """
        select lever, num_pairs, effect, se from stack_effects
        where rule_digest = ? and base_id = ? and num_pairs >= 2 order by entry"""
    return [
        f"{lever}, stacked: {figure(abs(effect))} {'better' if effect >= 0 else 'worse'} at {num} new seeds of both "
        f"bases, which nothing selected; standard error {figure(se)}, {num - 1} degrees of freedom"
        for lever, num, effect, se in read(ledger, question, [rows[0].rule_digest, rows[0].base_id]).rows
    ]


def _of_sigma(ledger: Path, rule: Rule, rule_digest: str, base_id: str) -> list[str]:
    from flowlab.ledger.connection import read

    question = """
        select sigma, sigma_low, sigma_high, df, rests_on from pooled_sigma
        where rule_digest = ? and base_id = ? and role = 'primary' and sigma is not null"""
    sealed = "" if rule.sigma is None else f"; sealed with the rule: {figure(rule.sigma.value)} ({rule.sigma.df})"
    return [
        f"sigma {figure(sigma)} (95% {figure(low)} to {figure(high)}), {df} degrees of freedom, from {rests_on}{sealed}"
        for sigma, low, high, df, rests_on in read(ledger, question, [rule_digest, base_id]).rows
    ]
