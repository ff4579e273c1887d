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
    """0.000587 in the control's 3 degrees, nothing in the one of delta-off: the root of 0.000587 / 4."""
    (row,) = ground.ask("pooled_sigma", PILOT)
    shown = [f"{row[column]:.4f}" for column in ("sigma", "sigma_low", "sigma_high")]
    assert (shown, row["df"], row["num_levers"]) == (["0.0121", "0.0073", "0.0348"], 4, 2)


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


def test_the_pilot_s_control_at_1001_was_unlucky(ground):
    """The others: 0.3289, 0.3237, 0.3387, mean 0.3304, sd 0.0076. (0.3555 - 0.3304) / 0.0076 is 3.29."""
    ground.ask("seed_spread", PILOT)
    unlucky, *rest = ground.ask("control_luck order by is_unlucky desc")
    assert (f"{unlucky['others_mean']:.4f}", f"{unlucky['others_sd']:.4f}") == ("0.3304", "0.0076")
    assert (unlucky["seed"], f"{unlucky['z']:.2f}", unlucky["chance"]) == (1001, "3.29", 3 / 8)
    assert (unlucky["num_beaten"], unlucky["num_levers"]) == (5, 7)
    assert unlucky["reason"] == (
        "control at 1001: 3.29 sd worse than the others; 5 of 7 levers beat it, chance 0.375: unlucky"
    )
    assert [row["is_unlucky"] or row["is_lucky"] for row in rest] == [False] * 3


def test_a_control_beaten_by_all_of_twenty_is_unlucky_by_its_rank(ground):
    values = {f"lever-{i}": {1002: 0.31} for i in range(20)}
    ground.ask("seed_spread", {"control": CONTROLS} | values)
    (row,) = ground.ask("control_luck where seed = 1002")
    assert (row["chance"], row["is_unlucky"], row["z"] < 0) == (1 / 21, True, True)


def test_a_control_far_better_than_the_others_is_lucky(ground):
    ground.ask("seed_spread", {"control": CONTROLS | {1002: 0.20}})
    assert [row["seed"] for row in ground.ask("control_luck where is_lucky")] == [1002]


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
    """Primary values 0.02 apart for both: sigma is 0.02 / sqrt 2. The flat frames are 0.2 apart."""
    campaign = Campaign(ledger, runs, panel_rule(guardrails=(FLAT,)))
    for seed, more in {1001: 0.0, 1002: 1.0}.items():
        campaign.run("control", seed, 0.38 + 0.02 * more, flat=0.1 + 0.2 * more)
        campaign.run("lever", seed, 0.36 + 0.02 * more, flat=0.1)
    (row,) = campaign.ask("effects")
    assert (row["sigma"], row["df"], row["raw_effect"]) == (pytest.approx(0.02 / 2**0.5), 2, pytest.approx(0.02))
    assert [row["variance_ratio"] for row in campaign.ask("unequal_variance")] == pytest.approx([1.0, 1.0])
    assert [row["value"] for row in campaign.ask("control_luck order by seed")] == [0.38, 0.40]


def test_a_tie_beats_no_control(ground):
    ground.ask("seed_spread", {"control": CONTROLS, "same": {1002: 0.3237}, "better": {1002: 0.3236}})
    (row,) = ground.ask("control_luck where seed = 1002")
    assert (row["num_beaten"], row["num_levers"]) == (1, 2)


def test_the_pilot_s_effects(ground):
    """delta-off: 0.3367 - 0.3275; seed noise 0.0121 sqrt(1/2 + 1/4); kept of it is tau2 / (tau2 + noise squared)."""
    rows = {row["lever"]: row for row in ground.ask("effects", PILOT)}
    row = rows["delta-off"]
    assert (row["num_seeds"], round(row["raw_effect"], 6), row["fresh_effect"]) == (2, 0.0092, None)
    assert [f"{row[name]:.4f}" for name in ("seed_noise", "shrunk_effect", "paired_effect")] == [
        *["0.0105", "0.0049", "0.0121"]
    ]
    assert row["evaluation_noise"] is None
    assert f"{rows['depth-2']['raw_effect']:.4f}" == "-0.0120"
    raw, noise = (np.array([row[name] for row in rows.values()]) for name in ("raw_effect", "seed_noise"))
    tau2 = max(0.0, float(np.mean(raw**2 - noise**2)))
    assert [row["shrunk_effect"] for row in rows.values()] == pytest.approx(raw * tau2 / (tau2 + noise**2))


def test_levers_that_differ_by_less_than_their_noise_are_shrunk_to_nothing(ground):
    """One lever at the panel's very mean: the mean of 0 - noise squared is below 0, so tau2 is 0."""
    (row,) = ground.ask("effects", {"control": CONTROLS, "lever": {1001: 0.3368}})
    assert (row["tau2"], row["shrunk_effect"], round(row["raw_effect"], 6)) == (0, 0, -0.0001)


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
    assert (row["raw_effect"], row["seed_noise"], row["shrunk_effect"]) == (None, None, None)
    assert row["paired_effect"] == pytest.approx(0.1)
    assert ground.ask("false_discoveries") == []


def test_the_pilot_has_no_discovery(ground):
    """delta-off is the best of seven: t 0.0092 / 0.0105 on 4 degrees, p 0.21; 7 / 1 of that, or the largest p, is q."""
    ground.ask("seed_spread", PILOT)
    first, *_, last = ground.ask("false_discoveries order by rank")
    assert (first["lever"], first["num_levers"], first["df"]) == ("delta-off", 7, 4)
    assert (f"{first['t']:.2f}", f"{first['p']:.2f}") == ("0.88", "0.21")
    assert first["q_value"] == last["q_value"] == last["p"]
    assert f"{last['p']:.2f}" == "0.95"


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
