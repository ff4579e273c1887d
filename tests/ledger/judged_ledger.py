"""The four runs of docs/views.md as a ledger: a panel of two controls, and a lever that is stacked."""

from pathlib import Path

from flowlab.core.types import MetricRow
from flowlab.journal.lines import RunJournal, StudyJournal
from flowlab.ledger.ingest import ingest
from flowlab.study.rule import write_out
from flowlab.study.settings import Guardrail, MetricKey, RuleSettings
from tests.ledger.ledger_files import STEERING, register

FLAT = ("l1", "steering", "flat_frame", "meank")
RUNS = (
    ("control", 1001, 0.40, 0.100),
    ("control", 1002, 0.38, 0.100),
    ("wide", 1001, 0.37, 0.101),
    ("wide", 1002, 0.36, 0.103),
)
SETTINGS = RuleSettings(
    preset="panel",
    panel_seeds=(1001, 1002),
    judged_seeds=(1001, 1002),
    guardrails=(Guardrail(slice="flat_frame", margin=0.004),),
)


def make_judged(ledger: Path, runs: Path) -> Path:
    """The ledger, once everything is in it."""
    rule = write_out("panel", SETTINGS, MetricKey(slice="spike_frame"))
    with StudyJournal.of(runs) as study:
        study.seal(digest=rule.digest(), rule=rule.to_json())
    for lever, seed, value, flat in RUNS:
        with RunJournal.of(runs, f"{lever}-{seed}") as journal:
            register(journal, f"{lever}-{seed}", lever, seed)
            journal.metrics([MetricRow("flow_mse", "", "overall", "", 1.0 / (step + 1), step) for step in range(3)])
            journal.metrics([MetricRow(*STEERING, value), MetricRow(*FLAT, flat)])
            journal.finished()
    assert ingest(ledger, runs).problems == []
    return ledger
