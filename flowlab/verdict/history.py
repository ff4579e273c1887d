"""Which rules were sealed, when, why they were amended, and which is in force."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowlab.ledger.connection import read
from flowlab.study.rule import Rule


@dataclass(frozen=True)
class SealedRule:
    """A rule that was sealed; `reason` and `amended_digest` are of the amendment that brought it, if one did."""

    digest: str
    rule: Rule
    sealed_us: int
    simulated: dict[str, Any] | None
    amended_digest: str | None
    reason: str | None
    amended_us: int | None  # when another rule took its place
    is_in_force: bool


def read_history(ledger_path: Path) -> list[SealedRule]:
    """Every rule that was ever sealed, oldest first by the order of entries."""
    question = """
        select rules.rule_digest, rules.rule_json, rules.time_us, rules.simulated_json,
            brought.amended_digest, brought.reason, replaced.time_us as amended_us
        from rules
        left join amendments as brought on brought.rule_digest = rules.rule_digest
        left join amendments as replaced on replaced.amended_digest = rules.rule_digest
        order by rules.entry, rules.time_us, rules.rule_digest"""
    rows = read(ledger_path, question).rows
    return [
        SealedRule(
            digest,
            Rule.model_validate_json(rule_json),
            sealed_us,
            json.loads(simulated) if simulated else None,
            amended_digest,
            reason,
            amended_us,
            amended_us is None,
        )
        for digest, rule_json, sealed_us, simulated, amended_digest, reason, amended_us in rows
    ]
