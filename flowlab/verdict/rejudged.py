"""What an amendment would change, before it is made: past levers under both rules, by the views that judge."""

from dataclasses import dataclass, fields
from pathlib import Path

from flowlab.ledger.connection import read
from flowlab.ledger.scratch import scratch_copy
from flowlab.study.rule import Rule


@dataclass(frozen=True)
class Rejudged:
    """One row of the view `rejudged`: a lever under the rule that is replaced, and under the one that replaces it.

    Outcomes are what the rules would decide if neither were post-hoc; None where the new rule does not judge the lever,
    because its runs were evaluated in another way.
    """

    lever: str
    recipe_digest: str
    base_id: str
    amended_rule: str
    amended_stage: str
    amended_outcome: str
    rule: str | None
    stage: str | None
    outcome: str | None
    flipped: bool
    amended_reason: str
    reason: str | None


QUESTION = f"select {', '.join(field.name for field in fields(Rejudged))} from rejudged"
ORDER = "order by amended_us, lever, base_id, recipe_digest"


def rejudge(rule: Rule, amended_digest: str, ledger_path: Path) -> list[Rejudged]:
    """Every lever that the sealed rule `amended_digest` judges, under it and under `rule`; nothing is changed."""
    with scratch_copy(ledger_path, rule, amended_digest) as ledger:
        answer = ledger.execute(f"{QUESTION} where rule_digest = ? {ORDER}", [rule.digest()])
        return [Rejudged(*row) for row in answer.fetchall()]


def read_rejudged(ledger_path: Path) -> list[Rejudged]:
    """The same of every amendment that was made, oldest first."""
    return [Rejudged(*row) for row in read(ledger_path, f"{QUESTION} {ORDER}").rows]
