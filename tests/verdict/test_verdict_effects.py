"""What levers are worth and how sure that is: the worked example of docs/views.md, and numbers by hand."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from tests.verdict.campaign import FLAT, Campaign, panel_rule, preset
from tests.verdict.simulated import Simulated, simulated

# The published pilot. The seeds of the controls 0.3289 and 0.3387 were not published: 1000 and 1003 stand for them.
CONTROLS = {1000: 0.3289, 1001: 0.3555, 1002: 0.3237, 1003: 0.3387}
AT_1001 = {
    "lr-half": 0.3545,
    "lr-double": 0.3585,
    "delta-off": 0.3274,
    "delta-50": 0.3650,
    "delta-off+lds": 0.3327,
    "depth-2": 0.3487,
    "width-512": 0.3525,
}
PILOT = {"control": CONTROLS, **{lever: {1001: value} for lever, value in AT_1001.items()}}
PILOT["delta-off"] = {1001: 0.3274, 1002: 0.3276}


@pytest.fixture(scope="module")
def ground() -> Iterator[Simulated]:
    with simulated(panel_rule(panel_seeds=tuple(CONTROLS))) as ground:
        yield ground


def test_the_pilot_s_spread_over_seeds(ground):
    rows = {row["lever"]: row for row in ground.ask("seed_spread", PILOT)}
    shown = [f"{rows['control'][column]:.4f}" for column in ("mean", "sd")]
    assert (shown, rows["control"]["num_seeds"], rows["control"]["df"]) == (["0.3367", "0.0140"], 4, 3)
    assert (len(rows), rows["delta-off"]["df"], rows["depth-2"]["df"], rows["depth-2"]["sd"]) == (8, 1, 0, None)


def test_the_pilot_s_sigma(ground):
    """0.000587 on the controls' 3 degrees, the root of a third. Of delta-off's seeds the second came for the first."""
    (row,) = ground.ask("pooled_sigma", PILOT)
    shown = [f"{row[column]:.4f}" for column in ("sigma", "sigma_low", "sigma_high")]
    assert (shown, row["df"], row["rests_on"]) == (["0.0140", "0.0079", "0.0522"], 3, "4 controls")
    assert (row["num_controls"], row["num_levers"]) == (4, 0)


def test_the_pilot_s_two_pairs_correlate_at_minus_one_and_are_not_used(ground):
    (row,) = ground.ask("seed_correlation", PILOT)
    assert (row["rho"], row["num_pairs"], row["is_usable"]) == (pytest.approx(-1), 2, False)
    deltas = ground.ask("adjusted_deltas where lever = 'delta-off' order by seed")
    assert [round(row["delta"], 6) for row in deltas] == [-0.0281, 0.0039]
    assert [round(row["panel_delta"], 6) for row in deltas] == [-0.0093, -0.0091]
    assert [row["adjusted_delta"] for row in deltas] == [None, None]


def test_delta_off_s_two_seeds_lie_suspiciously_close_and_that_proves_nothing(ground):
    ground.ask("seed_spread", PILOT)
    (row,) = ground.ask("unequal_variance where lever = 'delta-off'")
    assert (f"{row['variance_ratio']:.4f}", f"{row['z']:.2f}", row["is_unequal"]) == ("0.0001", "-1.56", False)


def test_the_pilot_s_control_at_1001_is_not_proved_unlucky(ground):
    """The others: 0.3289, 0.3237, 0.3387, mean 0.3304, sd 0.0076. (0.3555 - 0.3304) / 0.0076 is 3.29."""
    ground.ask("seed_spread", PILOT)
    worst, *rest = ground.ask("control_luck order by z desc")
    assert (f"{worst['others_mean']:.4f}", f"{worst['others_sd']:.4f}") == ("0.3304", "0.0076")
    assert (worst["seed"], f"{worst['z']:.2f}", f"{worst['bar']:.1f}") == (1001, "3.29", "10.2")
    assert (worst["num_beaten"], worst["num_levers"]) == (5, 7)
    assert worst["reason"] == (
        "control at 1001: 3.29 sd worse than the others (bar 10.2); 5 of 7 levers beat it: nothing unusual"
    )
    assert [row["is_unlucky"] or row["is_lucky"] for row in [worst, *rest]] == [False] * 4


@pytest.mark.parametrize(("value", "luck"), [(0.50, "unlucky"), (0.20, "lucky"), (0.40, "nothing unusual")])
def test_luck_is_told_alike_on_either_side(ground, value, luck):
    """The others as above: 0.50 and 0.20 are 22 and 17 of their sd away, 0.40 only 9."""
    ground.ask("seed_spread", {"control": CONTROLS | {1001: value}, "lever": {1001: 0.3}})
    (row,) = ground.ask("control_luck where seed = 1001")
    assert (row["is_unlucky"], row["is_lucky"]) == (luck == "unlucky", luck == "lucky")
    assert row["reason"].endswith(f": {luck}")


def test_a_control_that_nothing_was_compared_with_is_neither_lucky_nor_unlucky(ground):
    ground.ask("seed_spread", {"control": CONTROLS | {1001: 0.50}, "lever": {1002: 0.3}})
    (row,) = ground.ask("control_luck where seed = 1001")
    assert (row["num_levers"], row["z"] > row["bar"], row["is_unlucky"]) == (0, True, False)


def test_being_beaten_by_all_levers_is_no_luck(ground):
    """They may well be better. Here the control at 1002 is the best of the panel."""
    ground.ask("seed_spread", {"control": CONTROLS} | {f"lever-{i}": {1002: 0.31} for i in range(20)})
    (row,) = ground.ask("control_luck where seed = 1002")
    assert (row["num_beaten"], row["is_unlucky"], row["z"] < 0) == (20, False, True)


def test_the_bars_of_luck_are_student_s_for_5_percent_of_panels(ground):
    rows = ground.ask("luck_quantiles order by num_controls")
    sizes = np.arange(3, 65)
    assert [row["num_controls"] for row in rows] == sizes.tolist()
    assert [row["quantile"] for row in rows] == pytest.approx(stats.t.isf(0.025 / sizes, sizes - 2), rel=1e-7)


def test_beyond_the_table_the_bar_is_right_to_a_ten_thousandth():
    with simulated(panel_rule(panel_seeds=tuple(range(100)))) as ground:
        row, *_ = ground.ask("control_luck", {"control": {seed: float(seed) for seed in range(100)}})
    assert row["bar"] == pytest.approx(stats.t.isf(0.025 / 100, 98) * (100 / 99) ** 0.5, rel=1e-4)


def test_two_controls_cannot_tell_which_of_them_was_lucky(ground):
    rows = ground.ask("control_luck", {"control": {1000: 0.3, 1001: 0.4}})
    assert {(row["others_sd"], row["z"], row["is_unlucky"]) for row in rows} == {(None, None, False)}
    assert "fewer than two others, or they do not vary" in rows[0]["reason"]


def test_a_placebo_is_no_lever_that_beats_or_is_worth_something(ledger, runs):
    campaign = Campaign(ledger, runs, panel_rule())
    campaign.controls({1001: 0.40, 1002: 0.38})
    campaign.run("placebo", 1001, 0.40, recipe="base")
    assert [row["num_levers"] for row in campaign.ask("control_luck")] == [0, 0]
    assert campaign.ask("effects") == []


def test_a_guardrail_s_numbers_stay_out_of_what_is_said_of_the_primary_metric(ledger, runs):
    """The controls are 0.02 apart: sigma is 0.02 / sqrt 2. The flat frames are 0.2 apart."""
    campaign = Campaign(ledger, runs, panel_rule(guardrails=(FLAT,)))
    for seed, more in {1001: 0.0, 1002: 1.0}.items():
        campaign.run("control", seed, 0.38 + 0.02 * more, flat=0.1 + 0.2 * more)
        campaign.run("lever", seed, 0.36 + 0.02 * more, flat=0.1)
    (row,) = campaign.ask("effects")
    assert (row["sigma"], row["df"], row["raw_effect"]) == (pytest.approx(0.02 / 2**0.5), 1, pytest.approx(0.02))
    assert [row["variance_ratio"] for row in campaign.ask("unequal_variance")] == pytest.approx([1.0, 1.0])
    assert [row["value"] for row in campaign.ask("control_luck order by seed")] == [0.38, 0.40]


def test_a_tie_beats_no_control(ground):
    ground.ask("seed_spread", {"control": CONTROLS, "same": {1002: 0.3237}, "better": {1002: 0.3236}})
    (row,) = ground.ask("control_luck where seed = 1002")
    assert (row["num_beaten"], row["num_levers"]) == (1, 2)


def test_the_pilot_s_effects(ground):
    """delta-off: 0.3367 - 0.3275; seed noise 0.0140 sqrt(1/2 + 1/4). tau2: what raw effects vary by beyond that."""
    rows = {row["lever"]: row for row in ground.ask("effects", PILOT)}
    row = rows["delta-off"]
    assert (row["num_seeds"], round(row["raw_effect"], 6), row["fresh_effect"]) == (2, 0.0092, None)
    assert [f"{row[name]:.4f}" for name in ("seed_noise", "paired_effect")] == ["0.0121", "0.0121"]
    assert row["evaluation_noise"] is None
    assert f"{rows['depth-2']['raw_effect']:.4f}" == "-0.0120"
    raw, noise = (np.array([row[name] for row in rows.values()]) for name in ("raw_effect", "seed_noise"))
    tau2 = max(0.0, float(np.mean(raw**2 - noise**2)))
    assert [row["tau2"] for row in rows.values()] == pytest.approx([tau2] * 7)


def test_levers_that_differ_by_less_than_their_noise_have_no_tau2(ground):
    """One lever at the panel's very mean: the mean of 0 - noise squared is below 0, so tau2 is 0."""
    (row,) = ground.ask("effects", {"control": CONTROLS, "lever": {1001: 0.3368}})
    assert (row["tau2"], round(row["raw_effect"], 6)) == (0, -0.0001)


def test_fresh_takes_the_fresh_seeds_alone_and_waits_for_all_of_them():
    """Panel mean 0.38. Over all four seeds 0.335, so raw is 0.045; over the fresh ones 0.37: 0.01."""
    control, lever = {1: 0.40, 2: 0.36}, {11: 0.30, 12: 0.30, 21: 0.38}
    with simulated(preset("fresh", (1, 2), (11, 12, 21, 22))) as ground:
        (waits,) = ground.ask("effects", {"control": control, "lever": lever})
        (there,) = ground.ask("effects", {"control": control, "lever": lever | {22: 0.36}})
        (decided,) = ground.ask("decisions")
    assert (waits["fresh_effect"], waits["paired_effect"], waits["num_pairs"]) == (None, None, 0)
    assert (there["raw_effect"], there["fresh_effect"]) == (pytest.approx(0.045), pytest.approx(0.01))
    assert decided["effect"] == pytest.approx(there["fresh_effect"])


def test_without_its_panel_a_lever_has_no_effect_but_its_pairs(ground):
    (row,) = ground.ask("effects", {"control": {1001: 0.4}, "lever": {1001: 0.3}})
    assert (row["raw_effect"], row["seed_noise"], row["tau2"]) == (None, None, None)
    assert row["paired_effect"] == pytest.approx(0.1)
    assert ground.ask("false_discoveries") == []


def test_the_pilot_has_no_discovery(ground):
    """delta-off is the best of seven: t 0.0092 / 0.0121 on 3 degrees, p 0.25; 7 / 1 of that, or the largest p, is q."""
    ground.ask("seed_spread", PILOT)
    first, *_, last = ground.ask("false_discoveries order by rank")
    assert (first["lever"], first["num_levers"], first["df"]) == ("delta-off", 7, 3)
    assert (f"{first['t']:.2f}", f"{first['p']:.2f}") == ("0.76", "0.25")
    assert first["q_value"] == last["q_value"] == last["p"]
    assert f"{last['p']:.2f}" == "0.92"


@pytest.fixture(scope="module")
def found(ground) -> list[dict]:
    """Twenty levers from 0.2 better to 0.1 worse, on 3 degrees of freedom."""
    levers = {f"lever-{i}": {1001: 0.1367 + 0.015 * i} for i in range(20)}
    return ground.ask("false_discoveries order by rank", {"control": CONTROLS} | levers)


def test_p_is_the_normal_tail_to_a_millionth_of_itself(found):
    assert {row["z"] > 0 for row in found} == {True, False}
    assert [row["p"] for row in found] == pytest.approx(stats.norm.sf([row["z"] for row in found]), rel=1e-6)


def test_p_is_near_that_of_student_s_t(found):
    exact = stats.t.sf([row["t"] for row in found], 3)
    assert [row["p"] for row in found] == pytest.approx(exact, abs=0.001)


def test_q_values_are_scipy_s(found):
    assert [row["rank"] for row in found] == list(range(1, 21))
    q_values = stats.false_discovery_control([row["p"] for row in found])
    assert [row["q_value"] for row in found] == pytest.approx(q_values, rel=1e-12)
    assert min(q_values) < 0.1 < max(q_values)
