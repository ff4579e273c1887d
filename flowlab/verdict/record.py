"""Writes decisions down as they are made, so that nobody can change a view and have had another verdict all along."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.verdict.judge import Verdict
from flowlab.verdict.seal import one_at_a_time

COLUMNS = ("rule_digest", "control_digest", "cache_id", "evaluation_id", "lever", "recipe_digest")
DECIDED = ("stack", "drop")


@dataclass(frozen=True)
class Reversal:
    """A decision that was recorded, and what the views make of the same lever now."""

    lever: str
    recorded: str
    recorded_us: int
    decision: str


def record_verdicts(verdicts: Iterable[Verdict], runs_dir: Path, ledger_path: Path) -> list[Reversal]:
    """Record decisions that the ledger has not recorded yet; returns those that are no longer what was recorded."""
    rows = list(verdicts)
    recorded = _recorded(ledger_path)
    if any(_is_news(row, recorded) for row in rows):
        with one_at_a_time(runs_dir):
            ingest(ledger_path, runs_dir)
            recorded = _recorded(ledger_path)
            news = [row for row in rows if _is_news(row, recorded)]
            if news:
                from flowlab.journal.lines import StudyJournal

                with StudyJournal.of(runs_dir) as journal:
                    journal.verdicts(
                        {name: getattr(row, name) for name in (*COLUMNS, "decision", "effect", "reason")}
                        for row in news
                    )
                ingest(ledger_path, runs_dir)
    return [
        Reversal(row.lever, recorded[key][0], recorded[key][1], row.decision)
        for row in rows
        if (key := _key(row)) in recorded and recorded[key][0] != row.decision
    ]


def _recorded(ledger_path: Path) -> dict[tuple[str, ...], tuple[str, int]]:
    """The first decision on each lever under each rule, and when it was recorded."""
    question = f"select {', '.join(COLUMNS)}, decision, time_us from recorded_verdicts order by entry desc"
    return {tuple(row[:-2]): (row[-2], row[-1]) for row in read(ledger_path, question).rows}


def _is_news(row: Verdict, recorded: dict[tuple[str, ...], tuple[str, int]]) -> bool:
    return row.decision in DECIDED and _key(row) not in recorded


def _key(row: Verdict) -> tuple[str, ...]:
    return tuple(getattr(row, name) for name in COLUMNS)
