"""A panel may be seen before bars are sealed, by a rule whose seeds, statistics and guardrails stood before."""

import pytest

from flowlab.journal.values import BadLine
from flowlab.study.rule import Rule
from tests.verdict.campaign import EVALUATION, FLAT, panel_rule, sealable
from tests.verdict.told import Told

RULE = sealable(panel_rule())  # seeds 1001, 1002
OTHER = sealable(panel_rule(panel_seeds=(1003, 1004)).model_copy(update={"judged_seeds": (1003, 1004)}))
HIGHER = RULE.model_copy(update={"stages": (RULE.stages[0], RULE.stages[1].model_copy(update={"bar": 0.02}))})
WIDER = RULE.model_copy(update={"guardrails": (FLAT.model_copy(update={"margin": 0.01}),)})
STALE = "post-hoc panel: control@1001, control@1002 ran before the rule took them in, so it may not stack anything"


def decision(told: Told, lever: str = "good") -> tuple[str, str, str]:
    """Outcome, decision and reason under the rule in force."""
    where = f"from decisions semi join rules_in_force using (rule_digest) where lever = '{lever}'"
    (row,) = told.ask(f"outcome, decision, reason {where}")
    return row


def judged(told: Told) -> tuple[str, bool]:
    """What becomes of a lever that is 0.06 better at both seeds, and whether the panel is called post-hoc."""
    told.lever("good", 0.34, 0.34)
    outcome, decided, reason = decision(told)
    assert outcome == "stack"
    return decided, STALE in reason


def test_a_panel_that_was_seen_after_its_design_was_registered_is_not_post_hoc(told: Told) -> None:
    design = told.calibrate(RULE)
    told.controls(0.40, 0.40)
    told.seal(RULE, design)
    assert judged(told) == ("stack", False)


def test_bars_may_be_chosen_once_the_panel_is_seen(told: Told) -> None:
    design = told.calibrate(RULE)
    told.controls(0.40, 0.40)
    told.seal(HIGHER, design)
    assert judged(told) == ("stack", False)


def test_a_panel_that_was_seen_without_a_calibration_is_post_hoc(told: Told) -> None:
    told.controls(0.40, 0.40)
    told.seal(RULE)
    assert judged(told) == ("undecided", True)


def test_a_calibration_after_the_panel_was_seen_is_too_late(told: Told) -> None:
    told.controls(0.40, 0.40)
    told.seal(RULE, told.calibrate(RULE))
    assert judged(told) == ("undecided", True)


def test_half_a_panel_that_was_seen_before_is_told_by_name(told: Told) -> None:
    told.controls(0.40)
    design = told.calibrate(RULE)
    told.controls(0.40, first_seed=1002)
    told.seal(RULE, design)
    told.lever("good", 0.34, 0.34)
    outcome, decided, reason = decision(told)
    assert (outcome, decided) == ("stack", "undecided")
    assert "post-hoc panel: control@1001 ran before" in reason


def test_a_seal_that_names_no_calibration_has_none(told: Told) -> None:
    told.calibrate(RULE)
    told.controls(0.40, 0.40)
    told.seal(RULE)
    assert judged(told) == ("undecided", True)


def test_a_margin_that_was_changed_once_the_panel_was_seen_is_another_design(told: Told) -> None:
    """The seal cannot name the calibration of another design; named anew, it comes too late."""
    told.calibrate(RULE)
    told.controls(0.40, 0.40)
    told.seal(WIDER, told.calibrate(WIDER))
    assert judged(told) == ("undecided", True)


def test_who_calibrates_two_panels_takes_the_later_one_or_none(told: Told) -> None:
    """A, its panel, B, its panel: B may be sealed; A may not, for it would be chosen."""
    told.calibrate(RULE)
    told.controls(0.40, 0.40)
    later = told.calibrate(OTHER)
    told.controls(0.40, 0.40, first_seed=1003)
    told.seal(OTHER, later)
    told.lever("good", 0.34, 0.34, first_seed=1003)
    assert decision(told)[:2] == ("stack", "stack")


def test_the_earlier_of_two_calibrations_is_not_gone_back_to(told: Told) -> None:
    design = told.calibrate(RULE)
    told.controls(0.40, 0.40)
    told.calibrate(OTHER)
    told.controls(0.40, 0.40, first_seed=1003)
    told.seal(RULE, design)
    assert judged(told) == ("undecided", True)


def test_registering_the_earlier_one_again_does_not_make_its_panel_unseen(told: Told) -> None:
    told.calibrate(RULE)
    told.controls(0.40, 0.40)
    told.calibrate(OTHER)
    told.controls(0.40, 0.40, first_seed=1003)
    told.seal(RULE, told.calibrate(RULE))
    assert judged(told) == ("undecided", True)


def test_a_lever_that_ran_between_the_calibration_and_the_seal_is_post_hoc(told: Told) -> None:
    design = told.calibrate(RULE)
    told.controls(0.40, 0.40)
    told.run("good", 1001, 0.34)
    told.seal(RULE, design)
    told.run("good", 1002, 0.34)
    outcome, decided, reason = decision(told)
    assert (outcome, decided) == ("stack", "undecided")
    assert "post-hoc: 1 of its runs are older than the rule" in reason


def test_a_placebo_repeats_its_controls_and_is_judged_all_the_same(told: Told) -> None:
    """Its numbers are those of controls that were seen, which the calibration allows; it is 0.00 better."""
    design = told.calibrate(RULE)
    told.controls(0.40, 0.40)
    told.seal(RULE, design)
    told.lever("placebo", 0.40, 0.40, recipe="base")
    outcome, decided, reason = decision(told, "placebo")
    assert (outcome, decided) == ("drop", "drop")
    assert "post-hoc" not in reason


def test_a_lever_that_was_seen_as_the_control_of_another_base_is_post_hoc(told: Told) -> None:
    """Between calibration and seal its recipe ran as a control, which shows its numbers as well."""
    design = told.calibrate(RULE)
    told.controls(0.40, 0.40)
    told.controls(0.34, 0.34, control="good-recipe")
    told.seal(RULE, design)
    told.lever("good", 0.34, 0.34)
    outcome, decided, reason = decision(told)
    assert (outcome, decided) == ("stack", "undecided")
    assert "post-hoc: 2 of its runs are older than the rule or repeat one that is" in reason


def test_the_controls_of_another_base_may_be_calibrated_too(told: Told) -> None:
    design = told.calibrate(RULE)
    told.controls(0.40, 0.40)
    told.controls(0.38, 0.38, control="moved")
    told.seal(RULE, design)
    told.lever("good", 0.32, 0.32, control="moved")
    assert decision(told)[:2] == ("stack", "stack")


def test_an_amendment_takes_a_calibrated_panel_over(told: Told) -> None:
    design = told.calibrate(RULE)
    told.controls(0.40, 0.40)
    told.amend(HIGHER, told.seal(RULE, design))
    assert judged(told) == ("stack", False)


def test_an_amendment_does_not_make_a_chosen_panel_unseen(told: Told) -> None:
    """Chosen by the first rule, taken over whole by the second and the third: post-hoc for all of them."""
    told.controls(0.40, 0.40)
    second = told.amend(HIGHER, told.seal(RULE))
    told.amend(HIGHER.model_copy(update={"name": "third"}), second)
    assert judged(told) == ("undecided", True)


def test_a_panel_that_grows_by_a_seed_that_was_seen_is_chosen_by_that_seed(told: Told) -> None:
    told.seal(RULE)
    told.controls(0.40, 0.40, 0.40)
    told.amend(RULE.model_copy(update={"panel_seeds": (1001, 1002, 1003)}), RULE)
    told.lever("good", 0.34, 0.34)
    assert "post-hoc panel: control@1003 ran before" in decision(told)[2]


@pytest.mark.parametrize("rule", [WIDER, OTHER, RULE.judging(EVALUATION | {"draws": 8})])
def test_a_seal_may_not_name_the_calibration_of_another_design(told: Told, rule: Rule) -> None:
    with pytest.raises(BadLine, match=f"the rule's design is {rule.design_digest()}, the seal says"):
        told.seal(rule, RULE.design_digest())
