"""Writes decisions down as they are made, so that nobody can change a view and have had another verdict all along."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowlab.ledger.connection import compute_once, let_go, read, reading
from flowlab.ledger.ingest import ingest
from flowlab.verdict.judge import JUDGING
from flowlab.verdict.seal import one_at_a_time

RECORDED = "verdicts"
"""The kind of a line of the study's journal that records decisions."""
IDLE = ["tree", "phase", "note", "tag", "planned", "encoder"]
"""Kinds that no decision rests on."""

NEWS = """
    select unrecorded_decisions.* exclude (base_id), control_digest, evaluation_id, cache_id
    from unrecorded_decisions
    join (
        select
            base_id, lever, recipe_digest, any_value(control_digest) as control_digest,
            any_value(evaluation_id) as evaluation_id, arg_min(cache_id, entry) as cache_id
        from (
            select base_id, lever, recipe_digest, control_digest, evaluation_id, cache_id, entry from runs
            union all
            select base_id, lever, recipe_digest, control_digest, evaluation_id, cache_id, screens.entry
            from screens
            join screen_levers using (screen)
        )
        group by all
    ) using (base_id, lever, recipe_digest)
    order by all"""
"""What is not recorded, as a line of the study's journal says it; the cache is the lever's first run's or screen's."""


@dataclass(frozen=True)
class Reversal:
    """A decision that was recorded, and what the views make of the same lever now."""

    lever: str
    recorded: str
    recorded_us: int
    decision: str


def record_decisions(runs_dir: Path, ledger_path: Path, patience_s: float | None = None) -> int:
    """How many decisions were recorded just now: those of the ledger that nobody has recorded yet.

    The step after journals were brought in. Costs nothing where the last thing that came in is a recorded decision.
    `patience_s`: who only reads leaves it to the next one where another process takes a decision for so long.
    """
    with reading(ledger_path):
        if _is_settled(ledger_path) or not _news(ledger_path):
            return 0
        let_go(ledger_path)  # who takes a decision may wait to write
    with one_at_a_time(runs_dir, patience_s):
        ingest(ledger_path, runs_dir, patience_s=patience_s, runs_too=False)
        news = _news(ledger_path)  # of what another process has not recorded meanwhile
        if news:
            from flowlab.journal.lines import StudyJournal

            with StudyJournal.of(runs_dir) as journal:
                journal.verdicts(news)
            ingest(ledger_path, runs_dir, patience_s=patience_s, runs_too=False)
    return len(news)


def read_reversals(ledger_path: Path) -> list[Reversal]:
    """Decisions that are no longer what was recorded of them first; nothing is written. Raises as `read` does."""
    if not read(ledger_path, "select 1 from recorded_verdicts limit 1").rows:
        return []
    compute_once(ledger_path, *JUDGING)
    question = "select lever, recorded, recorded_us, decision from reversed_decisions order by all"
    return [Reversal(*row) for row in read(ledger_path, question).rows]


def _news(ledger_path: Path) -> list[dict[str, Any]]:
    compute_once(ledger_path, *JUDGING)
    return read(ledger_path, NEWS).records()


def _is_settled(ledger_path: Path) -> bool:
    """Whether nothing that decides came in since the last decision was recorded, or no rule is there to decide."""
    question = """
        select not exists (select 1 from rules)
            or coalesce((select arg_max(kind, entry) from chain where not list_contains(?, kind)) = ?, true)"""
    return read(ledger_path, question, [IDLE, RECORDED]).rows[0][0]
