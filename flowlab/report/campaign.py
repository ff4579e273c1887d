"""What the ledger says of a whole campaign, read once for all sections of a report."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flowlab.ledger.connection import read, reading
from flowlab.study.settings import MetricKey
from flowlab.study.study import Study
from flowlab.verdict.bases import KnownBase, read_bases
from flowlab.verdict.history import SealedRule, read_history
from flowlab.verdict.judge import Verdict, read_verdicts

Record = dict[str, Any]

ORDER = {"stack": 0, "undecided": 1, "drop": 2, "": 3}
"""Decisions as a reader wants them."""

RUNS = """
    select
        run_status.*, runs.recipe_digest, runs.control_digest, runs.base_id, runs.cache_id, runs.evaluation_id,
        runs.changed_keys, runs.hypothesis, runs.origin, told_runs.purpose, runs.entry
    from run_status
    join runs using (run_id)
    join told_runs using (run_id)
    order by runs.entry, registered_us, run_id"""


@dataclass(frozen=True)
class Campaign:
    """A study and its ledger. `runs` are rows of run_status with what their journals registered, oldest first."""

    study: Study
    runs: list[Record]
    rules: list[SealedRule]
    verdicts: list[Verdict]
    bases: dict[str, KnownBase]  # by id, oldest first

    @property
    def ledger(self) -> Path:
        return self.study.ledger

    @cached_property
    def rule_in_force(self) -> SealedRule | None:
        """The sealed rule that no amendment has replaced, if one is sealed."""
        return next((rule for rule in reversed(self.rules) if rule.is_in_force), None)

    @property
    def primary(self) -> MetricKey:
        """The number that decides: the rule's in force, else the study's."""
        return self.rule_in_force.rule.primary if self.rule_in_force else self.study.file.study.primary

    @property
    def sign(self) -> int:
        """1 where a lower primary metric is better, -1 where a higher one is."""
        return -1 if self.primary.direction == "higher" else 1

    @cached_property
    def values(self) -> dict[str, float]:
        """The primary metric of each finished run that has it, by run id."""
        return self.final_values(self.primary)

    @cached_property
    def present_base(self) -> str | None:
        """The base that experiments.toml describes; the newest where it describes none that is known."""
        described = (base_id for base_id, base in self.bases.items() if base.is_present)
        return next(described, next(reversed(self.bases), None))

    def ask(self, question: str, parameters: Sequence[Any] = ()) -> list[Record]:
        """The ledger's answer to one SELECT."""
        return read(self.ledger, question, parameters).records()

    @cached_property
    def filled(self) -> set[str]:
        """Which of the tables that many views rest on have rows: a view is not asked in vain."""
        tables = ("amendments", "stacks", "screens", "recorded_verdicts")
        asked = " union all ".join(f"(select '{name}' as name from {name} limit 1)" for name in tables)
        return {row["name"] for row in self.ask(asked)}

    def final_values(self, key: MetricKey) -> dict[str, float]:
        """What finished runs ended with, by run id."""
        question = """
            select run_id, value from final_metrics
            where metric = ? and channel = ? and slice = ? and readout = ? and drive = ?"""
        asked = [key.metric, key.channel, key.slice, key.readout, key.drive or ""]
        return dict(read(self.ledger, question, asked).rows)

    def base_name(self, base_id: str) -> str:
        """ "control -> wide", in order of stacking."""
        return self.bases[base_id].path

    @cached_property
    def screen_of(self) -> dict[str, str]:
        """The screen that a run is a row of, by run id."""
        question = "select run_id, any_value(screen) from screen_runs where run_id is not null group by run_id"
        return dict(read(self.ledger, question).rows) if "screens" in self.filled else {}

    @cached_property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The recipe of each run as it was registered: dotted key -> value."""
        found: dict[str, dict[str, Any]] = {}
        for run_id, key, value in read(self.ledger, "select run_id, key, value_json from run_settings").rows:
            found.setdefault(run_id, {})[key] = json.loads(value)
        return found

    def decision_of(self, lever: str) -> Verdict | None:
        """The verdict on a lever that counts now: of the rule in force on the newest base that it was judged on."""
        in_force = self.rule_in_force.digest if self.rule_in_force else None
        bases = list(self.bases)
        own = [row for row in self.verdicts if row.lever == lever]
        return max(own, key=lambda row: (row.rule_digest == in_force, bases.index(row.base_id)), default=None)


def read_campaign(study: Study) -> Campaign:
    """The campaign as the ledger has it now. Raises MissingError where there is no ledger yet."""
    with reading(study.ledger):
        runs = read(study.ledger, RUNS).records()
        return Campaign(study, runs, read_history(study.ledger), read_verdicts(study.ledger), read_bases(study))


def seed_text(seed: int) -> str:
    """A seed for people; imported runs of which nobody knows the seed stand under numbers below 0."""
    return f"seed {seed}" if seed >= 0 else "no seed"
