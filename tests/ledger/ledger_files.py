"""Writes small journals and reads whole ledgers back."""

from pathlib import Path

from flowlab.core.types import MetricRow
from flowlab.journal.lines import RunJournal
from flowlab.ledger.connection import open_ledger, read

STEERING = ("l1", "steering", "spike_frame", "meank")


def register(journal: RunJournal, run_id: str, lever: str = "control", seed: int = 1001) -> None:
    """The first two lines of a run."""
    journal.registered(
        run_id=run_id,
        study="test",
        lever=lever,
        seed=seed,
        replicate=0,
        recipe={"train": {"lr": 1e-4, "steps": 10}},
        recipe_digest="c" if lever == "control" else lever,
        control_digest="c",
        cache_id="cache",
        evaluation_id="evaluation",
        evaluation={"draws": 4},
        changed_keys=["train.lr"] if lever != "control" else [],
        tags=["scale:pilot"],
    )
    journal.started(
        attempt=0, device="cpu", cohort_size=1, threads=1, pid=7, environment={"torch": "2"}, git_revision="abc"
    )


def write_run(
    runs_dir: Path, run_id: str, value: float = 0.3, lever: str = "control", seed: int = 1001, num_steps: int = 3
) -> Path:
    """The journal of a finished run with one final value."""
    with RunJournal.of(runs_dir, run_id) as journal:
        register(journal, run_id, lever, seed)
        journal.metrics([MetricRow("flow_mse", "", "overall", "", 1.0 / (step + 1), step) for step in range(num_steps)])
        journal.metrics([MetricRow(*STEERING, value)])
        journal.wall_time({"train": 1.5, "evaluate": 0.5})
        journal.artifact("policy.safetensors", "d1", 123)
        journal.finished()
        return journal.path


def table(ledger: Path, name: str) -> list[dict]:
    """Every row of a table or view."""
    return read(ledger, f"select * from {name}").records()


DATA_TABLES = (
    "runs", "run_settings", "tags", "attempts", "environments", "metrics", "events", "wall_times", "artifacts",
    "caches", "rules", "rule_stages", "rule_guardrails", "rule_seeds",
)  # fmt: skip


def contents(ledger: Path) -> dict[str, list[str]]:
    """All that journals said, table by table, in an order of its own: two ledgers are equal if these are."""
    with open_ledger(ledger, read_only=True) as connection:
        said = {name: connection.execute(f"select * exclude (entry) from {name}").fetchall() for name in DATA_TABLES}
    return {name: sorted(map(repr, rows)) for name, rows in said.items()}
