"""Writes decisions down as they are made, so that nobody can change a view and have had another verdict all along."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.verdict.seal import one_at_a_time

RECORDED = "verdicts"
"""The kind of a line of the study's journal that records decisions."""

NEWS = """
    with firsts as (
        select
            base_id, lever, recipe_digest,
            any_value(control_digest) as control_digest,
            any_value(evaluation_id) as evaluation_id,
            arg_min(cache_id, entry) as cache_id
        from runs
        group by base_id, lever, recipe_digest
    )
    select
        decided.rule_digest, firsts.control_digest, firsts.cache_id, firsts.evaluation_id,
        decided.lever, decided.recipe_digest, decided.decision, decided.effect, decided.reason
    from decisions as decided
    join firsts using (base_id, lever, recipe_digest)
    anti join recorded_verdicts as recorded
        on recorded.rule_digest = decided.rule_digest
        and recorded.base_id = decided.base_id
        and recorded.lever = decided.lever
        and recorded.recipe_digest = decided.recipe_digest
    where decided.decision in ('stack', 'drop')
    order by decided.rule, decided.base_id, decided.lever, decided.recipe_digest"""
"""What is decided and not recorded, as a line of the study's journal says it; the cache is the lever's first run's."""

REVERSED = """
    with recorded as (
        select
            rule_digest, base_id, lever, recipe_digest,
            arg_min(decision, entry) as decision, arg_min(time_us, entry) as time_us
        from recorded_verdicts
        group by rule_digest, base_id, lever, recipe_digest
    )
    select decided.lever, recorded.decision, recorded.time_us, decided.decision
    from decisions as decided
    join recorded using (rule_digest, base_id, lever, recipe_digest)
    where recorded.decision <> decided.decision
    order by decided.rule, decided.base_id, decided.lever, decided.recipe_digest"""


@dataclass(frozen=True)
class Reversal:
    """A decision that was recorded, and what the views make of the same lever now."""

    lever: str
    recorded: str
    recorded_us: int
    decision: str


def record_decisions(runs_dir: Path, ledger_path: Path) -> int:
    """How many decisions were recorded just now: those of the ledger that nobody has recorded yet.

    The step after journals were brought in. Costs nothing where the last thing that came in is a recorded decision.
    """
    if _is_settled(ledger_path) or not _news(ledger_path):
        return 0
    with one_at_a_time(runs_dir):
        ingest(ledger_path, runs_dir)
        news = _news(ledger_path)  # of what another process has not recorded meanwhile
        if news:
            from flowlab.journal.lines import StudyJournal

            with StudyJournal.of(runs_dir) as journal:
                journal.verdicts(news)
            ingest(ledger_path, runs_dir)
    return len(news)


def read_reversals(ledger_path: Path) -> list[Reversal]:
    """Decisions that are no longer what was recorded of them first; nothing is written. Raises as `read` does."""
    if not read(ledger_path, "select 1 from recorded_verdicts limit 1").rows:
        return []
    return [Reversal(*row) for row in read(ledger_path, REVERSED).rows]


def _news(ledger_path: Path) -> list[dict[str, Any]]:
    return read(ledger_path, NEWS).records()


def _is_settled(ledger_path: Path) -> bool:
    """Whether nothing came in since the last decision was recorded, or no rule is there to decide anything."""
    question = "select not exists (select 1 from rules) or coalesce((select arg_max(kind, entry) from chain) = ?, true)"
    return read(ledger_path, question, [RECORDED]).rows[0][0]
