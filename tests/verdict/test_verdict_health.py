"""What came of each lever, and whether its runs are sound, in numbers to be checked by hand."""

from pathlib import Path

import pytest

from flowlab.core.digest import digest_json
from flowlab.core.types import MetricRow
from flowlab.journal.lines import RunJournal, StudyJournal
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from tests.verdict.campaign import EVALUATION, Campaign, panel_rule


@pytest.fixture
def campaign(ledger: Path, runs: Path) -> Campaign:
    """Controls at 0.40 and 0.38: the panel's mean is 0.39, its sd 0.0141."""
    campaign = Campaign(ledger, runs, panel_rule())
    campaign.controls({1001: 0.40, 1002: 0.38})
    ingest(ledger, runs)  # a base is older than the levers that are compared on it
    return campaign


def base(campaign: Campaign, control: str, stacked: list[str]) -> None:
    with StudyJournal.of(campaign.runs) as journal:
        journal.base(
            control_digest=control, cache_id="cache", evaluation_id=digest_json(EVALUATION), stacked=stacked, recipe={}
        )


def outcomes(campaign: Campaign) -> dict[str, str | None]:
    return {row["lever"]: row["outcome"] for row in campaign.ask("outcomes")}


def curve(campaign: Campaign, run_id: str, values: dict[int, float]) -> None:
    with RunJournal.of(campaign.runs, run_id) as journal:
        journal.metrics([MetricRow("flow_mse", "", "overall", "", value, step) for step, value in values.items()])


def test_an_outcome_follows_from_the_verdict(campaign: Campaign) -> None:
    base(campaign, "base", [])
    campaign.run("good", 1001, 0.36)
    campaign.run("good", 1002, 0.36)
    campaign.run("equal", 1001, 0.40)
    campaign.run("harmful", 1001, 0.50)  # 0.11 worse; noise 0.0141 x sqrt(1 + 1/2) = 0.0173
    campaign.run("half", 1001, 0.36)
    campaign.run("unstable", 1001, None, ending="crashed")
    assert outcomes(campaign) == {
        "control": "control",
        "good": None,  # it may be stacked
        "equal": "null",
        "harmful": "negative",
        "half": None,
        "unstable": "crashed-early",
    }
    (harmful,) = campaign.ask("outcomes where lever = 'harmful'")
    assert (harmful["effect"], harmful["noise"]) == (pytest.approx(-0.11), pytest.approx(0.017321, rel=1e-4))


def test_a_stacked_lever_is_the_baseline_and_what_was_undecided_before_is_superseded(campaign: Campaign) -> None:
    base(campaign, "base", [])
    campaign.run("good", 1001, 0.36)
    campaign.run("good", 1002, 0.36)
    campaign.run("half", 1001, 0.36)
    ingest(campaign.ledger, campaign.runs)
    base(campaign, "moved", ["good"])
    assert outcomes(campaign) == {"control": "control", "good": "baseline", "half": "superseded"}


def test_what_somebody_tagged_last_has_the_last_word(campaign: Campaign) -> None:
    campaign.run("equal", 1001, 0.40)
    for value in ("negative", "legacy"):
        with StudyJournal.of(campaign.runs) as journal:
            journal.tag(about="lever", subject="equal", taxonomy="outcome", value=value)
    (row,) = campaign.ask("outcomes where lever = 'equal'")
    assert (row["outcome"], row["is_said"], row["decision"]) == ("legacy", True, "drop")


def test_a_run_is_past_its_best_if_that_was_long_before_its_end(campaign: Campaign) -> None:
    curves = {
        1001: ({100: 0.50, 600: 0.60}, True),
        1002: ({100: 0.50, 600: 0.52}, False),  # 4% above the best
        1003: ({400: 0.50, 600: 0.60}, False),  # two thirds of the steps
        1004: ({399: 0.50, 600: 0.60}, True),
        1005: ({100: 0.50, 200: 0.50, 600: 0.60}, True),  # of equally good ones the first is the best
    }
    for seed, (values, _) in curves.items():
        curve(campaign, campaign.run("wide", seed, 0.36), values)
    found = {
        row["seed"]: (row["best_step"], row["num_steps"], row["is_past_best"]) for row in campaign.ask("run_health")
    }
    assert found == {seed: (min(values), 600, past) for seed, (values, past) in curves.items()}


def test_a_lever_s_health_is_that_of_its_runs(campaign: Campaign) -> None:
    curve(campaign, campaign.run("wide", 1001, 0.36), {100: 0.5, 400: 0.7})
    curve(campaign, campaign.run("wide", 1002, 0.38), {300: 0.5, 400: 0.5})
    campaign.run("wide", 1003, None, ending="crashed")
    (row,) = campaign.ask("lever_health")
    assert (row["num_runs"], row["crashed_seeds"], row["past_best_seeds"]) == (3, [1003], [1001])
    assert row["best_share"] == pytest.approx(0.5)  # a quarter, and three
    assert row["sd"] == pytest.approx(0.0141421, rel=1e-5)
    assert row["worse_than"] == []


def test_wall_times_of_earlier_journals_are_made_shares(campaign: Campaign) -> None:
    """Cohorts of four: before, each run had the seconds of all four."""
    with RunJournal.of(campaign.runs, "wide-1001") as journal:
        for attempt in (0, 1):
            journal.started(
                attempt=attempt, device="cpu", cohort_size=4, threads=1, pid=1, environment={}, git_revision=""
            )
        journal.wall_time({"train": 8.0})
    with RunJournal.of(campaign.runs, "tall-1001") as journal:
        journal.wall_time({"load": 1.0, "train": 2.0}, 0)
        journal.wall_time({"train": 3.0}, 0)
        journal.wall_time({"train": 4.0}, 1)
    ingest(campaign.ledger, campaign.runs)
    rows = read(campaign.ledger, "select run_id, attempt, phase, seconds from run_times order by all").rows
    assert rows == [
        ("tall-1001", 0, "load", 1.0),
        ("tall-1001", 0, "train", 5.0),
        ("tall-1001", 1, "train", 4.0),
        ("wide-1001", 1, "train", 2.0),
    ]
