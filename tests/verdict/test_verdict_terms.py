"""Bars in a sealed sigma, and the control's luck taken off by a sealed rho: by hand."""

import pytest

from flowlab.study.rule import Rule, Sigma, in_sigma
from flowlab.study.settings import StageSettings
from tests.verdict.campaign import PRIMARY, preset, sealable
from tests.verdict.told import Told


def one_stage(**changes: object) -> Rule:
    """A rule of one stage over the panel's two seeds, 1001 and 1002."""
    usual = {"name": "only", "statistic": "panel", "num_seeds": 1, "bar": 0.012}
    terms = {name: changes.pop(name) for name in ("sigma", "rho", "rho_from", "primary") if name in changes}
    stages = (StageSettings(**usual | changes),)
    return sealable(preset("panel", (1001, 1002), (1001, 1002)).model_copy(update={"stages": stages, **terms}))


def by_sigma(told: Told, sigma: float, *improvements: float) -> list[str]:
    """What becomes of levers that are so much better, under the bar of 0.012 in units of the published 0.014."""
    stage = in_sigma(StageSettings(name="only", statistic="panel", num_seeds=1, bar=0.012))
    assert (stage.bar, stage.bar_unit) == (0.857, "sigma")
    told.seal(one_stage(bar=stage.bar, bar_unit="sigma", sigma=Sigma(value=sigma, df=15)))
    told.controls(0.4, 0.4)
    for number, improvement in enumerate(improvements):
        told.run(f"lever-{number}", 1001, 0.4 - improvement)
    return [decision for (decision,) in told.ask("decision from decisions order by lever")]


def test_a_bar_in_sigma_is_what_it_was_where_sigma_is_the_published_one(told: Told) -> None:
    """0.857 x 0.014 is 0.011998."""
    assert by_sigma(told, 0.014, 0.011998, 0.012) == ["drop", "stack"]


def test_a_bar_in_sigma_grows_with_the_sealed_sigma_and_not_with_the_panel_s(told: Told) -> None:
    """0.857 x 0.020 is 0.01714; the panel's own sd is 0 here."""
    assert by_sigma(told, 0.020, 0.01714, 0.0172) == ["drop", "stack"]
    assert told.ask("distinct bar, bar_unit from stage_results") == [(pytest.approx(0.01714), "sigma")]
    ((reason,),) = told.ask("reason from stage_results where lever = 'lever-1'")
    assert reason == "only: 0.0172 better than the panel mean at 1001, more than 0.857 sigma, 0.0171: passed"


def adjusted(told: Told, rho: float, primary: dict[str, str] | None = None) -> tuple[float, str]:
    """The improvement of a lever that ends at 0.37 where its control had 0.40 and the panel's mean is 0.39, and why."""
    key = PRIMARY.model_copy(update=primary or {})
    told.seal(one_stage(statistic="adjusted", rho=rho, rho_from="the pilot", primary=key))
    told.controls(0.40, 0.38)
    told.run("lever", 1001, 0.37)
    ((improvement, reason),) = told.ask("round(improvement, 9), reason from stage_results")
    return improvement, reason


@pytest.mark.parametrize(("rho", "improvement"), [(0.0, 0.02), (0.5, 0.025), (0.9, 0.029), (1.0, 0.03)])
def test_the_share_rho_of_the_controls_luck_is_taken_off(told: Told, rho: float, improvement: float) -> None:
    """With 0 that is panel mean - lever, with 1 control - lever: the control at 1001 was 0.01 worse than its panel."""
    assert adjusted(told, rho)[0] == improvement
    ((lever, paired),) = told.ask("lever_mean, num_pairs from stage_results")
    assert (lever, paired) == (0.37, 1)


def test_the_reason_says_what_was_taken_off(told: Told) -> None:
    taken_off = "the control's luck taken off (rho 0.5)"
    assert (
        adjusted(told, 0.5)[1]
        == f"only: 0.0250 better than the panel mean at 1001, {taken_off}, more than 0.012: passed"
    )


def test_luck_is_taken_off_where_more_is_better_too(told: Told) -> None:
    """The lever is 0.02 below the panel's 0.39, and its control was 0.01 above: 0.025 worse."""
    assert adjusted(told, 0.5, {"direction": "higher"})[0] == -0.025


def test_over_several_seeds_it_is_the_mean_of_the_controls_there(told: Told) -> None:
    """Seeds 1001, 1002 are the whole panel, so that no luck is left: 0.39 - 0.36."""
    told.seal(one_stage(statistic="adjusted", num_seeds=2, rho=0.9, rho_from="the pilot"))
    told.controls(0.40, 0.38)
    told.lever("lever", 0.37, 0.35)
    assert told.ask("round(improvement, 9) from stage_results") == [(0.03,)]


def test_an_adjusted_stage_waits_for_lever_control_and_panel(told: Told) -> None:
    told.seal(one_stage(statistic="adjusted", rho=0.5, rho_from="the pilot"))
    told.base()
    told.controls(0.38, first_seed=1002)
    told.run("lever", 1001, None, ending="running")
    assert told.ask("reason from stage_results") == [("only: waits for lever@1001, control@1001, the panel",)]


def test_what_a_rule_seals_beside_its_stages_is_a_row(told: Told) -> None:
    told.seal(one_stage(statistic="adjusted", bar_unit="sigma", sigma=Sigma(value=0.02, df=15), rho=0.5, rho_from="x"))
    columns = "sigma, sigma_df, rho, screen_bar, screen_guard, screen_unit, design_digest"
    assert told.ask(f"{columns} from rule_terms") == [(0.02, 15, 0.5, None, None, None, None)]


def test_a_rule_that_seals_nothing_beside_its_stages_has_no_such_row(told: Told) -> None:
    told.seal(one_stage())
    assert told.ask("* from rule_terms") == []
