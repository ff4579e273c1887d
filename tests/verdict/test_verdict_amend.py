"""A rule is changed on the record: every past lever under both, and nothing that stood in the way is lost."""

import json
from pathlib import Path

import pytest

from flowlab.core.errors import RuleChangedError, RuleRefusedError
from flowlab.journal.lines import StudyJournal
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.rule import Rule
from flowlab.verdict.rejudged import read_rejudged, rejudge
from flowlab.verdict.seal import amend_rule, is_in_force, rules_in_force, seal_rule
from tests.verdict.campaign import FLAT, Campaign, panel_rule, preset, sealable

PANEL = (1000, 1001, 1002, 1003)
CONTROLS = {1000: 0.3289, 1001: 0.3555, 1002: 0.3237, 1003: 0.3387}
PUBLISHED = {"lr-half": 0.3545, "lr-double": 0.3585, "delta-50": 0.3650, "depth-2": 0.3487, "width-512": 0.3525}


def paired() -> Rule:
    return sealable(preset("paired", PANEL, (1001, 1002)))


def panel() -> Rule:
    return sealable(preset("panel", PANEL, (1001, 1002)))


@pytest.fixture
def published(ledger: Path, runs: Path) -> Campaign:
    """The pilot under `paired`, and one invented lever, `steady`: a little better than its control, twice."""
    campaign = Campaign(ledger, runs, paired())
    campaign.controls(CONTROLS, flat=0.1)
    for lever, value in PUBLISHED.items():
        campaign.run(lever, 1001, value, flat=0.1)
    for seed, (delta_off, steady) in {1001: (0.3274, 0.3440), 1002: (0.3276, 0.3130)}.items():
        campaign.run("delta-off", seed, delta_off, flat=0.1)
        campaign.run("steady", seed, steady, flat=0.1)
    return campaign


def test_a_replay_shows_every_lever_under_both_rules_and_marks_flips(published: Campaign) -> None:
    """steady: 0.0115 and 0.0107 better than its controls, each more than 0.010; 0.0082 than the panel, not 0.015."""
    assert published.verdicts()["steady"].decision == "stack"
    rows = {row.lever: row for row in rejudge(panel(), paired().digest(), published.ledger)}
    assert set(rows) == {*PUBLISHED, "delta-off", "steady"}
    steady, delta_off = rows["steady"], rows["delta-off"]
    assert (steady.amended_outcome, steady.outcome, steady.flipped) == ("stack", "drop", True)
    assert (delta_off.amended_stage, delta_off.amended_outcome) == ("confirm", "drop")
    assert (delta_off.stage, delta_off.outcome, delta_off.flipped) == ("stack", "drop", False)
    assert [row.lever for row in rows.values() if row.flipped] == ["steady"]
    assert published.verdicts()["steady"].rule == "paired", "nothing was changed by looking"


def test_an_amendment_is_on_the_record_and_its_replay_a_view(published: Campaign) -> None:
    published.verdicts()
    foretold = rejudge(panel(), paired().digest(), published.ledger)
    amend_rule(panel(), "paired fooled us", published.runs, published.ledger)
    assert read_rejudged(published.ledger) == foretold
    assert read(published.ledger, "select reason from amendments").rows == [("paired fooled us",)]
    assert [sealed.rule.name for sealed in rules_in_force(published.ledger)] == ["panel"]


def test_what_ran_before_an_amendment_is_post_hoc_for_the_new_rule(published: Campaign) -> None:
    for seed in (1001, 1002):
        published.run("good", seed, 0.30, flat=0.1)
    assert published.verdicts()["good"].decision == "stack"
    amend_rule(panel(), "stricter", published.runs, published.ledger)
    (row,) = read(published.ledger, "select outcome, decision, reason from decisions where lever = 'good' "
                                    "and rule = 'panel'").rows  # fmt: skip
    assert row[:2] == ("stack", "undecided")
    assert "post-hoc: 2 of its runs are older than the rule" in row[2]


def test_a_lever_that_begins_after_an_amendment_is_judged_by_the_new_rule_alone(published: Campaign) -> None:
    published.verdicts()
    amend_rule(panel(), "stricter", published.runs, published.ledger)
    for seed in (1001, 1002):
        published.run("late", seed, 0.30, flat=0.1)
    published.verdicts()
    rows = read(published.ledger, "select rule, decision from decisions where lever = 'late'").rows
    assert rows == [("panel", "stack")]
    rejudged = {row.lever for row in read_rejudged(published.ledger)}
    assert "late" not in rejudged


def test_a_margin_may_change_and_may_not_disappear(published: Campaign) -> None:
    spike = FLAT.model_copy(update={"slice": "spike_frame"})
    gone = panel().model_copy(update={"guardrails": (spike,)})
    with pytest.raises(RuleRefusedError, match=r"guardrail l1 steering flat_frame meank \(margin 0.004\) .* is gone"):
        amend_rule(gone, "it was in the way", published.runs, published.ledger)
    bare = panel().model_copy(update={"guardrails": ()})
    with pytest.raises(RuleRefusedError, match="has no guardrails"):
        amend_rule(bare, "it was in the way", published.runs, published.ledger)
    assert read(published.ledger, "select * from amendments").rows == []
    wider = panel().model_copy(update={"guardrails": (FLAT.model_copy(update={"margin": 0.006}), spike)})
    amend_rule(wider, "0.004 is less than the noise", published.runs, published.ledger)
    assert is_in_force(wider, published.ledger)


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_reason_is_required(published: Campaign, reason: str) -> None:
    with pytest.raises(RuleRefusedError, match="needs a reason"):
        amend_rule(panel(), reason, published.runs, published.ledger)


def test_an_amendment_that_changes_nothing_is_refused(published: Campaign) -> None:
    with pytest.raises(RuleRefusedError, match="in force as it is"):
        amend_rule(paired(), "why not", published.runs, published.ledger)


def test_nobody_amends_back_and_forth(published: Campaign) -> None:
    amend_rule(panel(), "stricter", published.runs, published.ledger)
    with pytest.raises(RuleRefusedError, match="was sealed before and amended away"):
        amend_rule(paired(), "the old one was nicer", published.runs, published.ledger)
    with pytest.raises(RuleChangedError, match="rule 'panel' is in force"):
        seal_rule(paired(), published.runs, published.ledger)


def test_without_a_rule_there_is_nothing_to_amend(ledger: Path, runs: Path) -> None:
    with pytest.raises(RuleRefusedError, match="flowlab rule seal"):
        amend_rule(sealable(panel_rule()), "first", runs, ledger)


def decision(campaign: Campaign, lever: str) -> tuple[str, str, str]:
    """Outcome, decision and reason under the rule in force."""
    campaign.verdicts()
    (row,) = read(
        campaign.ledger,
        "select outcome, decision, reason from decisions semi join rules_in_force using (rule_digest) where lever = ?",
        [lever],
    ).rows
    return row


def amend(campaign: Campaign, **changes: object) -> None:
    amend_rule(panel().model_copy(update=changes), "stricter", campaign.runs, campaign.ledger)


def test_another_name_does_not_make_a_recipe_new(published: Campaign) -> None:
    for seed in (1001, 1002):
        published.run("good", seed, 0.30, flat=0.1)
    amend(published)
    for seed in (1001, 1002):
        published.run("renamed", seed, 0.30, flat=0.1, recipe="good-recipe")
    assert decision(published, "renamed")[:2] == ("stack", "undecided")
    assert "post-hoc: 2 of its runs are older" in decision(published, "renamed")[2]


def test_a_setting_that_changes_no_number_does_not_make_a_lever_new(published: Campaign) -> None:
    """Another name and another recipe, the same bits at the same seeds."""
    for seed, value in {1001: 0.30, 1002: 0.29}.items():
        published.run("good", seed, value, flat=0.1)
    amend(published)
    for seed, twin, swapped in ((1001, 0.30, 0.29), (1002, 0.29, 0.30)):
        published.run("twin", seed, twin, flat=0.1)
        published.run("swapped", seed, swapped, flat=0.1)  # seen, but at the other seed
    outcome, decided, reason = decision(published, "twin")
    assert (outcome, decided) == ("stack", "undecided")
    assert "post-hoc: 2 of its runs are older than the rule or repeat one that is, which may not stack them" in reason
    assert decision(published, "swapped")[:2] == ("stack", "stack")


def test_numbers_of_another_evaluation_are_not_repeated(published: Campaign) -> None:
    for seed in (1001, 1002):
        published.run("good", seed, 0.30, flat=0.1, evaluation="other")
    amend(published)
    for seed in (1001, 1002):
        published.run("twin", seed, 0.30, flat=0.1)
    assert decision(published, "twin")[:2] == ("stack", "stack")


def test_another_evaluation_does_not_make_a_lever_new(published: Campaign) -> None:
    for seed in (1001, 1002):
        published.run("good", seed, 0.30, flat=0.1, evaluation="other")
    amend(published)
    for seed in (1001, 1002):
        published.run("good", seed, 0.30, flat=0.1, recipe="good-with-more-draws")
    assert decision(published, "good")[:2] == ("stack", "undecided")


WORST = {"panel_seeds": (1001, 1003), "judged_seeds": (1001, 1003)}
"""Of the four published controls the two worst: 0.3555 and 0.3387, mean 0.3471."""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (WORST, "takes in panel seed 1001, at which "),
        ({"judged_seeds": (1002, 1001)}, "takes in judged seed 100[12], at which "),
        ({"panel_seeds": (*PANEL, 1006)}, "takes in panel seed 1006, at which elsewhere-1006"),
        ({"judged_seeds": (1001, 1002, 1006)}, "takes in judged seed 1006, at which elsewhere-1006"),
    ],
)
def test_no_seed_is_chosen_after_anything_ran_at_it(published: Campaign, changes: dict, told: str) -> None:
    published.run("elsewhere", 1006, 0.30, flat=0.1, control="another-base")
    with pytest.raises(RuleRefusedError, match=told):
        amend(published, **changes)
    assert published.ask("amendments") == []


@pytest.mark.parametrize("judged", [(1001,), (1001, 1002), (1001, 1002, 1000, 1003)])
def test_judged_seeds_may_be_kept_and_go_on_with_the_panels_in_their_order(
    published: Campaign, judged: tuple[int, ...]
) -> None:
    published.run("elsewhere", 1006, 0.30, flat=0.1, control="another-base")
    amend(published, judged_seeds=judged, stages=panel().stages[:1], panel_seeds=(*PANEL, 1007))
    assert len(published.ask("amendments")) == 1


def take_the_worst(campaign: Campaign) -> None:
    """An amendment to the two worst controls, as earlier versions let it be written."""
    ingest(campaign.ledger, campaign.runs)
    rule, (old,) = panel().model_copy(update=WORST), rules_in_force(campaign.ledger)
    with StudyJournal.of(campaign.runs) as journal:
        journal.amend(digest=rule.digest(), rule=rule.to_json(), amended_digest=old.digest, reason="worse is better")
    ingest(campaign.ledger, campaign.runs)


def test_a_panel_that_was_chosen_after_its_controls_were_seen_stacks_nothing(published: Campaign) -> None:
    take_the_worst(published)
    for seed in (1001, 1003):
        published.run("late", seed, 0.32, flat=0.1)
    outcome, decided, reason = decision(published, "late")
    assert (outcome, decided) == ("stack", "undecided")
    assert "post-hoc panel: control@1001, control@1003 ran before the rule took them in" in reason


def test_a_control_that_repeats_what_was_seen_does_not_make_its_panel_new(published: Campaign) -> None:
    """The two worst again, by a control whose recipe says something else and whose bits are the same."""
    take_the_worst(published)
    for seed, value in {1001: 0.3555, 1003: 0.3387}.items():
        published.run("control", seed, value, flat=0.1, control="base-again")
        published.run("late", seed, 0.32, flat=0.1, control="base-again")
    outcome, found, reason = decision(published, "late")
    assert (outcome, found) == ("stack", "undecided")
    assert "post-hoc panel: control@1001, control@1003 ran before" in reason


def test_a_panel_that_is_taken_over_whole_and_grows_may_stack(published: Campaign) -> None:
    amend(published, panel_seeds=(*PANEL, 1004))
    published.run("control", 1004, 0.34, flat=0.1)
    for seed in (1001, 1002):
        published.run("late", seed, 0.30, flat=0.1)
    assert decision(published, "late")[:2] == ("stack", "stack")


def test_a_clock_that_is_wrong_does_not_make_old_runs_new(published: Campaign) -> None:
    """The runs say that they were registered tomorrow; their entries are older than the rule's."""
    published.run("good", 1001, 0.30, flat=0.1)
    published.run("good", 1002, 0.30, flat=0.1)
    for path in published.runs.glob("good-*/journal.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        moved = [json.dumps(line | {"time_us": line["time_us"] + 86_400_000_000}) for line in lines]
        path.write_text("\n".join(moved) + "\n")
    amend(published)
    assert decision(published, "good")[:2] == ("stack", "undecided")
