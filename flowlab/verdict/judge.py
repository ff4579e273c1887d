"""Reads what the sealed rules say. All judging happens in the ledger's views; nothing here computes."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from flowlab.ledger.connection import read

JUDGING = ("told_runs", "rule_values", "lever_decisions")
"""What several views read that tell of decisions: for `compute_once` where more than one of them is asked."""


@dataclass(frozen=True)
class Verdict:
    """One row of the view `verdicts`: what a rule says of one lever. Lower is better; deltas are lever - control."""

    rule: str
    rule_digest: str
    base_id: str
    lever: str
    recipe_digest: str
    num_pairs: int
    pair_seeds: list[int]
    paired_deltas: list[float]
    unlike_seeds: list[int]  # of pairs that were trained in two environments
    lever_mean: float | None
    panel_mean: float | None
    panel_sd: float | None
    panel_count: int
    stage_reached: str
    effect: float | None  # the improvement that the rule reports: at its last stage alone, once that is computed
    decision: str  # stack | drop | undecided
    reason: str
    owed: str  # "delta-off@1002, control@1003", "" if nothing is


@dataclass(frozen=True)
class OwedRun:
    """One row of the view `owed_runs`: a run that a rule wants next."""

    rule: str
    rule_digest: str
    base_id: str
    lever: str
    recipe_digest: str
    seed: int
    seed_position: int
    why: str  # "panel" or "stage <name>"
    status: str | None  # of a run of this name and seed that is there and not finished


Row = TypeVar("Row", Verdict, OwedRun)


def read_verdicts(ledger_path: Path, rule_digest: str | None = None, base_id: str | None = None) -> list[Verdict]:
    """Every verdict there is, by rule and lever; of one rule or on one base if given. Raises as `read` does."""
    return _select(ledger_path, Verdict, "verdicts", rule_digest, base_id, "rule, base_id, lever, recipe_digest")


def read_owed(ledger_path: Path, rule_digest: str | None = None, base_id: str | None = None) -> list[OwedRun]:
    """Every run that is owed, the panel's first; of one rule or on one base if given. Raises as `read` does."""
    order = "rule, base_id, why <> 'panel', lever, seed_position"
    return _select(ledger_path, OwedRun, "owed_runs", rule_digest, base_id, order)


def read_optional(ledger_path: Path) -> list[OwedRun]:
    """Every run that no rule needs and that tells what stacked levers are worth. Raises as `read` does."""
    return _select(ledger_path, OwedRun, "optional_runs", None, None, "rule, base_id, seed")


def read_broken_panels(ledger_path: Path) -> dict[str, list[int]]:
    """The seeds at which a control of a panel crashed, by rule, of the rules in force where they want runs."""
    question = """
        select rule, crashed
        from wanted_panels
        semi join rules_in_force using (rule_digest)
        where len(crashed) > 0
        order by all"""
    return dict(read(ledger_path, question).rows)


def _select(
    ledger_path: Path, kind: type[Row], view: str, rule_digest: str | None, base_id: str | None, order: str
) -> list[Row]:
    asked = {"rule_digest": rule_digest, "base_id": base_id}
    given = {column: value for column, value in asked.items() if value is not None}
    where = f" where {' and '.join(f'{column} = ?' for column in given)}" if given else ""
    table = read(ledger_path, f"select * from {view}{where} order by {order}", list(given.values()))
    names = [field.name for field in fields(kind)]
    return [kind(**{name: record[name] for name in names}) for record in table.records()]
