"""Rules as they stand in experiments.toml: what they are written out to, what is refused, and what keeps its name."""

import json

import pytest
from pydantic import ValidationError

from flowlab.core.errors import RuleRefusedError, StudyError
from flowlab.study.rule import PRESETS, Rule, Sigma, preset_rule, require_sealable, write_out
from flowlab.study.settings import Guardrail, MetricKey, RuleSettings, ScreenBar, StageSettings

PRIMARY = MetricKey(slice="spike_frame")
FLAT = Guardrail(slice="flat_frame", margin=0.004)
EIGHT = tuple(range(1001, 1009))
CALIBRATION = tuple(range(3001, 3009))


def climb(**changes: object) -> Rule:
    settings = {"preset": "climb", "panel_seeds": EIGHT, "judged_seeds": EIGHT[:6], "guardrails": (FLAT,)}
    return write_out("climb", RuleSettings(**settings | changes), PRIMARY)


def of_stages(*stages: dict, **changes: object) -> Rule:
    """A rule of stages of one's own, of which each says what is not `panel`, one seed, 0.01."""
    usual = {"statistic": "panel", "num_seeds": 1, "bar": 0.01}
    made = tuple(StageSettings(**usual | {"name": f"stage-{n}"} | stage) for n, stage in enumerate(stages, start=1))
    settings = {"stages": made, "panel_seeds": (1, 2), "judged_seeds": (1, 2), "guardrails": (FLAT,)}
    return write_out("mine", RuleSettings(**settings | changes), PRIMARY)


def test_climb_is_written_out() -> None:
    stages = [(of.name, of.statistic, of.first_seed, of.num_seeds, of.bar, of.stack_above) for of in climb().stages]
    assert stages == [
        ("seed-1", "panel", 1, 1, 0.012, None),
        ("seed-2", "panel", 1, 2, 0.012, 0.036),
        ("seed-3", "panel", 1, 3, 0.013, 0.028),
        ("seed-4", "panel", 1, 4, 0.013, 0.024),
        ("seed-5", "panel", 1, 5, 0.014, 0.020),
        ("seed-6", "panel", 1, 6, 0.016, 0.016),
    ]


def test_climb_in_sigma_has_the_same_bars_over_the_published_sd() -> None:
    """0.012 / 0.014 is 0.857, 0.036 / 0.014 is 2.571."""
    rule = climb(bars="sigma", calibration_seeds=CALIBRATION)
    assert {stage.bar_unit for stage in rule.stages} == {"sigma"}
    assert [stage.bar for stage in rule.stages] == [0.857, 0.857, 0.929, 0.929, 1.0, 1.143]
    assert [stage.stack_above for stage in rule.stages] == [None, 2.571, 2.0, 1.714, 1.429, 1.143]
    assert rule.control_seeds == (*EIGHT, *CALIBRATION)


def test_bars_in_panel_sd_stay_so_whatever_the_preset_is_asked_for() -> None:
    settings = RuleSettings(preset="two-sigma", bars="sigma", panel_seeds=EIGHT, judged_seeds=(2001,))
    assert [(of.bar, of.bar_unit) for of in write_out("two", settings, PRIMARY).stages] == [(2.0, "panel-sd")]


def test_the_screen_preset_has_the_bar_of_its_screen() -> None:
    settings = RuleSettings(preset="screen", panel_seeds=EIGHT, judged_seeds=(2001, 2002, 2003))
    rule = write_out("screen", settings, PRIMARY)
    assert rule.screen == ScreenBar(bar=0.010, guard=2.0, bar_unit="metric")
    assert [(of.name, of.statistic, of.num_seeds, of.bar) for of in rule.stages] == [("confirm", "panel", 3, 0.008)]


def test_the_screen_in_sigma_measures_both_bars_by_it() -> None:
    settings = RuleSettings(
        preset="screen", bars="sigma", panel_seeds=EIGHT, judged_seeds=(2001, 2002, 2003), calibration_seeds=CALIBRATION
    )
    rule = write_out("screen", settings, PRIMARY)
    assert rule.screen == ScreenBar(bar=0.714, guard=2.0, bar_unit="sigma")
    assert (rule.stages[0].bar, rule.is_in_sigma) == (0.571, True)


@pytest.mark.parametrize(("num_more", "told"), [(7, "Add 1 seeds"), (0, "Add 8 seeds")])
def test_bars_in_sigma_need_fifteen_degrees_of_freedom(num_more: int, told: str) -> None:
    with pytest.raises(
        StudyError, match=rf"rules.climb has bars in units of sigma, which {8 + num_more} controls.*{told}"
    ):
        climb(bars="sigma", calibration_seeds=CALIBRATION[:num_more])


@pytest.mark.parametrize(("sigma", "known"), [(None, "no"), (Sigma(value=0.014, df=14), "14")])
def test_a_rule_in_sigma_is_not_sealed_before_that_is_known(sigma: Sigma | None, known: str) -> None:
    rule = climb(bars="sigma", calibration_seeds=CALIBRATION).judging({"draws": 4}).measured(sigma)
    with pytest.raises(RuleRefusedError, match=f"the ledger knows it with {known} degrees of freedom, expected 15"):
        require_sealable(rule)
    require_sealable(rule.measured(Sigma(value=0.014, df=15)))


def test_a_rule_in_the_metrics_units_takes_no_sigma() -> None:
    assert climb().measured(Sigma(value=0.014, df=15)).sigma is None


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ([{"bar": 0.02, "stack_above": 0.01}], "stage 'stage-1' stacks above 0.01 and drops up to 0.02"),
        (
            [{"stack_above": 0.01}, {"num_seeds": 2}],
            "stage 'stage-2' is never reached: stage 'stage-1' drops up to 0.01",
        ),
        ([{"stack_above": 2.0}], "nothing stacks at once at stage 'stage-1': its stack_above is 2,"),
    ],
)
def test_a_stage_that_stacks_nothing_or_leaves_nothing_is_refused(stages: list[dict], told: str) -> None:
    with pytest.raises(StudyError, match=told):
        of_stages(*stages)


def test_the_last_stage_may_stack_whatever_it_does_not_drop() -> None:
    rule = of_stages({"stack_above": 0.03}, {"num_seeds": 2, "stack_above": 0.01})
    assert [stage.stack_above for stage in rule.stages] == [0.03, 0.01]


@pytest.mark.parametrize("stack_above", [float("nan"), float("inf"), "0.03"])
def test_a_bar_to_stack_at_once_is_a_finite_number(stack_above: object) -> None:
    with pytest.raises(ValidationError, match="stack_above"):
        of_stages({"stack_above": stack_above})


ADJUSTED = {"statistic": "adjusted"}


@pytest.mark.parametrize(
    ("stage", "changes", "told"),
    [
        (ADJUSTED, {}, "'adjusted', and no rho"),
        ({}, {"rho": 0.5, "rho_from": "the pilot"}, "has rho, and no stage of the statistic 'adjusted'"),
        (
            ADJUSTED | {"num_seeds": 2},
            {"rho": 0.5, "rho_from": "x", "judged_seeds": (1, 7)},
            "at seed 7, which is not in",
        ),
    ],
)
def test_a_rho_and_a_stage_that_asks_for_it_go_together(stage: dict, changes: dict, told: str) -> None:
    with pytest.raises(StudyError, match=told):
        of_stages(stage, **changes)


@pytest.mark.parametrize("given", [{"rho": 0.5}, {"rho_from": "the pilot"}])
def test_a_rho_is_given_with_where_it_was_measured(given: dict) -> None:
    with pytest.raises(ValidationError, match="give rho with rho_from"):
        of_stages(ADJUSTED, **given)


@pytest.mark.parametrize("rho", [-0.1, 1.1])
def test_a_rho_lies_between_0_and_1(rho: float) -> None:
    with pytest.raises(ValidationError, match="rho"):
        of_stages(ADJUSTED, rho=rho, rho_from="the pilot")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"calibration_seeds": (1001,)}, "calibration_seeds names 1001 twice"),
        ({"preset": None, "stages": PRESETS["panel"], "bars": "sigma"}, "bars is for presets"),
        ({"screen": ScreenBar(), "stages": PRESETS["panel"]}, "either a preset or stages"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: dict, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        climb(**given)


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("two-sigma", "b3a85fe5efb1bad7"),
        ("paired", "bca93a8a1269218e"),
        ("panel", "4524fa0c1951d8fa"),
        ("fresh", "5390121f71b4b0ba"),
    ],
)
def test_a_rule_of_before_keeps_its_digest(name: str, digest: str) -> None:
    """Sealed ledgers name them so; what a rule may say since is no part of one that does not say it."""
    rule = preset_rule(name, 4).model_copy(update={"guardrails": (FLAT,)}).judging({"draws": 4})
    assert rule.digest() == digest
    assert Rule.model_validate_json(json.dumps(rule.to_json())) == rule


def test_the_design_of_a_rule_is_all_but_its_bars() -> None:
    """Bars in the metric's units or in sigma, the bar of a screen and the sigma itself come after the panel."""
    rule = climb(calibration_seeds=CALIBRATION)
    stages = tuple(stage.model_copy(update={"bar": 0.02, "stack_above": None}) for stage in rule.stages)
    in_sigma = climb(calibration_seeds=CALIBRATION, bars="sigma").measured(Sigma(value=0.02, df=15))
    same = [rule.model_copy(update={"stages": stages}), in_sigma, rule.model_copy(update={"screen": ScreenBar()})]
    assert {other.design_digest() for other in same} == {rule.design_digest()}


@pytest.mark.parametrize(
    "change",
    [
        {"panel_seeds": (*EIGHT[:7], 1010)},
        {"judged_seeds": EIGHT[1:7]},
        {"calibration_seeds": CALIBRATION[:7]},
        {"guardrails": (FLAT.model_copy(update={"margin": 0.005}),)},
        {"stages": PRESETS["climb"][:5]},
        {"evaluation": {"draws": 8}},
        {"primary": MetricKey(slice="overall")},
        {"rho": 0.5},
    ],
)
def test_another_seed_statistic_or_margin_is_another_design(change: dict) -> None:
    rule = climb(calibration_seeds=CALIBRATION).judging({"draws": 4})
    assert rule.model_copy(update=change).design_digest() != rule.design_digest()
