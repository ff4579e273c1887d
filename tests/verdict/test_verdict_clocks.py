"""What is older than a rule follows from the order of entries: a clock that jumps bars nothing and lets nothing in."""

import json
import re
import time
from pathlib import Path

import pytest

from flowlab.journal import said as lines
from flowlab.ledger.ingest import ingest
from flowlab.verdict.rejudged import rejudge
from flowlab.verdict.seal import amend_rule, tell_clock
from tests.verdict.campaign import FLAT, Campaign, panel_rule, sealable

DAY_US = 86_400_000_000
WIDER = FLAT.model_copy(update={"margin": 0.005})
LATER = sealable(panel_rule(guardrails=(WIDER,), name="later"))


class Said:
    """Keeps what a command would say."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def at(monkeypatch: pytest.MonkeyPatch, shift_us: int) -> None:
    """This machine's clock, for what journals write, is off by that much from now on."""

    class Clock:
        @staticmethod
        def time_ns() -> int:
            return time.time_ns() + 1000 * shift_us

    monkeypatch.setattr(lines, "time", Clock)


@pytest.fixture
def campaign(ledger: Path, runs: Path) -> Campaign:
    return Campaign(ledger, runs, panel_rule())


def run_all(campaign: Campaign) -> None:
    """0.03 and 0.02 better than its controls, 0.025 than their mean: `stack` for all that their numbers say."""
    campaign.controls({1001: 0.40, 1002: 0.38})
    campaign.run("wide", 1001, 0.37)
    campaign.run("wide", 1002, 0.36)


@pytest.mark.parametrize("shift_us", [-DAY_US, DAY_US])
def test_runs_of_a_machine_whose_clock_is_off_count(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, shift_us: int
) -> None:
    at(monkeypatch, shift_us)
    run_all(campaign)
    assert campaign.verdicts()["wide"].decision == "stack"


@pytest.mark.parametrize("shift_us", [-DAY_US, DAY_US])
def test_runs_that_are_older_than_a_rule_are_so_whatever_the_clock_of_the_seal_says(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, shift_us: int
) -> None:
    run_all(campaign)
    at(monkeypatch, shift_us)
    amend_rule(LATER, "a test", campaign.runs, campaign.ledger)
    campaign.verdicts()
    rows = {row["rule"]: row for row in campaign.ask("decisions")}
    assert rows["later"]["decision"] == "undecided"
    assert "post-hoc: 2 of its runs are older than the rule" in rows["later"]["reason"]
    assert rows["panel"]["decision"] == "stack", "it had begun before the rule was amended away"


def test_a_lever_that_begins_after_an_amendment_is_judged_by_the_new_rule_alone(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, DAY_US)
    amend_rule(LATER, "a test", campaign.runs, campaign.ledger)
    at(monkeypatch, 0)
    run_all(campaign)
    campaign.verdicts()
    assert [row["rule"] for row in campaign.ask("judged_levers")] == ["later"]


def test_a_preview_looks_at_runs_of_a_clock_that_is_ahead(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, DAY_US)
    run_all(campaign)
    ingest(campaign.ledger, campaign.runs)
    (old,) = {row.rule_digest for row in campaign.verdicts().values()}
    assert [row.lever for row in rejudge(LATER, old, campaign.ledger)] == ["wide"]


def test_what_is_owed_of_a_run_follows_from_its_newest_entry(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One name and seed under two ids: the first crashed, by a clock that is ahead, the second is under way."""
    campaign.controls({1001: 0.40, 1002: 0.38})
    campaign.run("wide", 1001, 0.37)
    ingest(campaign.ledger, campaign.runs)
    at(monkeypatch, DAY_US)
    campaign.run("wide", 1002, None, cache="first", ending="interrupted")
    ingest(campaign.ledger, campaign.runs)
    at(monkeypatch, 0)
    campaign.run("wide", 1002, None, cache="second", ending="running")
    assert [(row["seed"], row["status"]) for row in campaign.ask("owed_runs")] == [(1002, "running")]


@pytest.mark.parametrize(("shift_us", "is_told"), [(-DAY_US, False), (10 * DAY_US, True)])
def test_a_clock_that_is_behind_the_newest_entry_is_told(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, shift_us: int, is_told: bool
) -> None:
    """Ten days are 864,000 s, less what the test takes."""
    at(monkeypatch, shift_us)
    campaign.run("control", 1001, 0.40)
    ingest(campaign.ledger, campaign.runs)
    said = Said()
    tell_clock(campaign.ledger, said)  # type: ignore[arg-type]
    assert len(said.lines) == is_told
    assert all(re.search(r"clock is 86[34],\d\d\d s behind the newest entry", line) for line in said.lines)


def test_a_rule_of_before_there_were_entries_still_goes_by_clocks(campaign: Campaign) -> None:
    """It names no evaluation. A ledger that is made anew of its journals reads all runs after it."""
    run_all(campaign)
    study = campaign.runs / "study.jsonl"
    seal = json.loads(study.read_text().splitlines()[0])
    early = sealable(panel_rule()).model_copy(update={"evaluation": None})
    seal |= {"time_us": seal["time_us"] + DAY_US, "rule": early.to_json(), "digest": early.digest()}
    study.write_text(json.dumps(seal) + "\n")
    campaign.ledger.unlink()
    verdict = campaign.verdicts()["wide"]
    assert verdict.decision == "undecided"
    assert "post-hoc: 2 of its runs are older than the rule" in verdict.reason
