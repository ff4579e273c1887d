"""Seeds' noise, what levers and controls share of it, and who is out of line: numbers that can be checked by hand."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

import flowlab
from flowlab.ledger.migrate import migrations_dir
from tests.verdict.campaign import FLAT, Campaign, panel_rule, preset
from tests.verdict.simulated import Simulated, simulated

SEEDS = (1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008)


@pytest.fixture(scope="module")
def ground() -> Iterator[Simulated]:
    """The preset `panel`, panel seeds and judged seeds 1001 and 1002."""
    with simulated(panel_rule()) as ground:
        yield ground


def campaign_of(ledger: Path, runs: Path, **rule) -> Campaign:
    return Campaign(ledger, runs, panel_rule(**rule))


def test_every_view_is_described_in_the_documents():
    described = (Path(flowlab.__file__).parents[1] / "docs" / "views.md").read_text()
    views = [file.stem.split("_", 1)[1] for file in sorted((migrations_dir() / "views").glob("[0-9]*.sql"))]
    assert len(views) > 20
    assert [view for view in views if f"**{view}**" not in described] == []


@pytest.mark.parametrize(
    ("name", "judged", "fresh"),
    [("fresh", (1, 2, 3, 4), [3, 4]), ("paired", (1, 2), [2]), ("panel", (1, 2), []), ("two-sigma", (1,), [])],
)
def test_the_fresh_seeds_of_each_preset(name, judged, fresh):
    with simulated(preset(name, (1, 2), judged)) as ground:
        rows = ground.ask("seed_roles where role <> 'panel' order by position")
    assert [row["seed"] for row in rows] == list(judged)
    assert [row["position"] for row in rows if row["role"] == "fresh"] == fresh


def test_a_judged_seed_that_no_stage_looks_at_has_no_role():
    with simulated(preset("fresh", (1, 2), (1, 2, 3, 4, 5))) as ground:
        rows = ground.ask("seed_roles order by role, position")
    assert [(row["role"], row["seed"]) for row in rows] == [
        *[("discovery", 1), ("discovery", 2), ("fresh", 3), ("fresh", 4), ("panel", 1), ("panel", 2)]
    ]


def test_seed_spread_holds_all_seeds_and_no_placebo(ledger, runs):
    campaign = campaign_of(ledger, runs)
    campaign.controls({1001: 0.40, 1002: 0.38, 7: 0.39})
    campaign.run("lever", 1001, 0.3)
    campaign.run("placebo", 1001, 0.40, recipe="base")
    cells = {row["lever"]: row for row in campaign.ask("seed_spread where role = 'primary'")}
    assert sorted(cells) == ["control", "lever"]
    assert (cells["control"]["num_seeds"], cells["control"]["df"]) == (3, 2)
    assert cells["control"]["mean"] == pytest.approx(0.39)
    assert cells["control"]["sum_squares"] == pytest.approx(0.0002)  # 0.01 twice, squared
    assert cells["control"]["sd"] == pytest.approx(0.01)
    assert (cells["lever"]["sd"], cells["lever"]["df"]) == (None, 0)


def test_sigma_is_told_for_each_metric_of_the_rule(ledger, runs):
    """The controls' squares, on 1 degree: 0.01 twice, and 0.001 twice on the flat frames. The lever's do not count."""
    campaign = campaign_of(ledger, runs, guardrails=(FLAT,))
    for seed, sign in {1001: 1, 1002: -1}.items():
        campaign.run("control", seed, 0.40 + 0.01 * sign, flat=0.1 + 0.001 * sign)
        campaign.run("lever", seed, 0.30 + 0.02 * sign, flat=0.1)
    campaign.run("once", 1001, 0.9, flat=0.9)
    primary, flat = campaign.ask("pooled_sigma order by position")
    assert (primary["role"], primary["df"], primary["rests_on"]) == ("primary", 1, "2 controls")
    assert primary["sigma"] == pytest.approx(0.0002**0.5)
    assert primary["sigma_low"] == pytest.approx((0.0002 / 5.0238862) ** 0.5)
    assert primary["sigma_high"] == pytest.approx((0.0002 / 0.00098206912) ** 0.5)
    assert (flat["role"], flat["position"], flat["sigma"]) == ("guardrail", 1, pytest.approx(0.000002**0.5))


FRESH = preset("fresh", (1, 2), (11, 12, 21, 22))
PAIRS = {
    "control": {1: 0.40, 2: 0.36},
    "narrow": {11: 0.10, 12: 0.30, 21: 0.38, 22: 0.36},
    "broad": {11: 0.10, 12: 0.30, 21: 0.38, 22: 0.34},
}
"""Squares of 0.02 twice, 0.01 twice and 0.02 twice about the means of the controls and of either fresh pair."""


def test_fresh_pairs_of_all_levers_count_as_one_pair():
    """0.0008 of the controls, and the mean of 0.0002 and 0.0008, on 1 degree each. 11 and 12 came one at a time."""
    with simulated(FRESH) as ground:
        (row,) = ground.ask("pooled_sigma", PAIRS)
        assert (row["df"], row["sigma"]) == (2, pytest.approx(((0.0008 + 0.0005) / 2) ** 0.5))
        assert (row["num_levers"], row["rests_on"]) == (2, "2 controls and 2 levers' fresh pairs")
        (row,) = ground.ask("pooled_sigma", {"control": {1: 0.4}, "narrow": PAIRS["narrow"]})
    assert (row["df"], row["sigma"]) == (1, pytest.approx(0.0002**0.5))
    assert (row["num_controls"], row["rests_on"]) == (1, "1 lever's fresh pair")


@pytest.mark.parametrize("why", ["half", "beside a control", "older", "imported", "placebo"])
def test_fresh_pairs_that_tell_nothing_of_sigma(why):
    """Half a pair may have been left at that for what it was; a control at such a seed shares luck with the levers."""
    values = dict(PAIRS)
    if why == "half":
        values = {lever: {seed: x for seed, x in of.items() if seed != 22} for lever, of in PAIRS.items()}
    if why == "beside a control":
        values["control"] = {2: 0.40, 22: 0.36}
    with simulated(FRESH) as ground:
        ground.ask("seed_spread", values)
        if why == "older":
            ground.connection.execute("update rules set entry = 2")
        if why == "imported":
            ground.connection.execute("update runs set origin = 'elsewhere' where lever <> 'control'")
        if why == "placebo":
            ground.connection.execute("update runs set recipe_digest = control_digest")
        (row,) = ground.ask("pooled_sigma")
    assert (row["df"], row["sigma"], row["rests_on"]) == (1, pytest.approx(0.0008**0.5), "2 controls")


def test_three_seeds_that_a_first_stage_adds_at_once_have_two_degrees():
    """Stages over seeds 1-3, 1-4 and 1-6: the fourth comes alone; 5 and 6 are a pair that this lever does not have."""
    stage = FRESH.stages[0]
    stages = tuple(
        stage.model_copy(update={"name": name, "num_seeds": num}) for name, num in [("a", 3), ("b", 4), ("c", 6)]
    )
    rule = FRESH.model_copy(update={"stages": stages, "judged_seeds": (11, 12, 13, 14, 15, 16)})
    with simulated(rule) as ground:
        (row,) = ground.ask("pooled_sigma", {"lever": {11: 0.1, 12: 0.2, 13: 0.3, 14: 0.9}})
    assert (row["df"], row["sigma"], row["rests_on"]) == (2, pytest.approx(0.1), "1 lever's fresh group")


def test_the_quantiles_are_those_of_chi_square(ground):
    rows = ground.ask("chi_square_quantiles order by df")
    assert [row["df"] for row in rows] == list(range(1, 1001))
    for column, at in {"lower_quantile": 0.025, "upper_quantile": 0.975}.items():
        exact = stats.chi2.ppf(at, np.arange(1, 1001))
        assert [row[column] for row in rows[:100]] == pytest.approx(exact[:100], rel=1e-7)
        assert [row[column] for row in rows[100:]] == pytest.approx(exact[100:], rel=1e-4)


def test_beyond_the_table_the_interval_is_right_to_a_thousandth(ground):
    """102 controls, half of them at 1, half at -1: squares of 102, on 101 degrees of freedom."""
    (row,) = ground.ask("pooled_sigma", {"control": {seed: float((-1) ** seed) for seed in range(102)}})
    assert (row["df"], row["sigma"]) == (101, pytest.approx((102 / 101) ** 0.5))
    assert row["sigma_low"] == pytest.approx((102 / stats.chi2.ppf(0.975, 101)) ** 0.5, rel=1e-3)
    assert row["sigma_high"] == pytest.approx((102 / stats.chi2.ppf(0.025, 101)) ** 0.5, rel=1e-3)


def test_the_spread_of_the_controls_has_the_same_interval_beyond_the_table(ground):
    many = {"control": {seed: float((-1) ** seed) for seed in range(102)}}
    (pooled,) = ground.ask("pooled_sigma", many)
    (spread,) = ground.ask("control_spread", many)
    assert (spread["df"], spread["sd"]) == (101, pytest.approx(pooled["sigma"]))
    assert [spread["sd_low"], spread["sd_high"]] == pytest.approx([pooled["sigma_low"], pooled["sigma_high"]])


def test_a_family_is_the_first_tag_that_is_not_the_lever_s_name(ledger, runs):
    campaign = campaign_of(ledger, runs)
    campaign.controls({1001: 0.40, 1002: 0.38})
    campaign.run("tagged", 1001, 0.3, tags=("zeal", "able"))
    campaign.run("untagged", 1001, 0.3)
    families = {row["lever"]: row["family"] for row in campaign.ask("family_pairs")}
    assert families == {"tagged": "zeal", "untagged": ""}


def with_control(lever: dict[int, float], control: dict[int, float]) -> dict[str, dict[int, float]]:
    return {"control": control, "lever": lever}


RISING = {seed: 0.25 * index for index, seed in enumerate(SEEDS)}  # quarters, which floats hold exactly
EVEN = dict(zip(SEEDS, [0, 1, 1, 0, 0, 1, 1, 0], strict=True))  # the same on both sides of the middle


def test_rho_1_makes_the_adjusted_delta_the_paired_one(ground):
    values = with_control({seed: value - 0.5 for seed, value in RISING.items()}, RISING)
    (row,) = ground.ask("seed_correlation", values)
    assert (row["rho"], row["num_pairs"], row["num_levers"], row["is_usable"]) == (pytest.approx(1), 8, 1, True)
    deltas = ground.ask("adjusted_deltas")
    assert [row["delta"] for row in deltas] == [-0.5] * 8
    assert [row["adjusted_delta"] for row in deltas] == pytest.approx([-0.5] * 8)


def test_rho_0_makes_the_adjusted_delta_that_against_the_panel(ground):
    (row,) = ground.ask("seed_correlation", with_control(EVEN, RISING))
    assert row["rho"] == 0
    rows = ground.ask("adjusted_deltas order by seed")
    assert [row["adjusted_delta"] for row in rows] == [row["panel_delta"] for row in rows]
    assert [row["panel_delta"] for row in rows] == [EVEN[seed] - 0.125 for seed in SEEDS], "the panel: 0 and 0.25"


def test_in_between_a_part_of_the_control_s_luck_is_taken_off(ground):
    """Control 0, 0, 0, 2, 2, 2; lever 0, 0, 2, 0, 2, 2: of 6 squares on each side 2 are shared, so rho is 1/3."""
    seeds = SEEDS[:6]
    control = dict(zip(seeds, [0, 0, 0, 2, 2, 2], strict=True))
    lever = dict(zip(seeds, [0, 0, 2, 0, 2, 2], strict=True))
    (row,) = ground.ask("seed_correlation", with_control(lever, control))
    assert (row["rho"], row["num_pairs"]) == (pytest.approx(1 / 3), 6)
    by_seed = {row["seed"]: row for row in ground.ask("adjusted_deltas")}
    assert by_seed[1004]["delta"] == -2
    assert by_seed[1004]["panel_delta"] == 0, "the panel of 1001 and 1002 has mean 0"
    assert by_seed[1004]["adjusted_delta"] == pytest.approx(-2 / 3)


def test_five_pairs_are_too_few_to_adjust_by(ground):
    values = with_control({seed: RISING[seed] for seed in SEEDS[:5]}, RISING)
    (row,) = ground.ask("seed_correlation", values)
    assert (row["num_pairs"], row["is_usable"]) == (5, False)
    assert {(row["rho"], row["adjusted_delta"]) for row in ground.ask("adjusted_deltas")} == {(None, None)}


def test_many_levers_at_three_seeds_make_up_for_no_fourth(ground):
    """Ten levers have 30 pairs at three seeds: not usable. One of them at a fourth seed is enough."""
    levers = {f"lever-{i}": {seed: RISING[seed] + i * EVEN[seed] for seed in SEEDS[:3]} for i in range(10)}
    (row,) = ground.ask("seed_correlation", {"control": RISING} | levers)
    assert (row["num_pairs"], row["num_seeds"], row["is_usable"]) == (30, 3, False)
    levers["lever-0"][SEEDS[3]] = 0.5
    (row,) = ground.ask("seed_correlation", {"control": RISING} | levers)
    assert (row["num_pairs"], row["num_seeds"], row["is_usable"]) == (31, 4, True)


def test_a_side_that_never_varies_has_no_correlation(ground):
    (row,) = ground.ask("seed_correlation", with_control(dict.fromkeys(SEEDS, 0.1), RISING))
    assert (row["rho"], row["num_pairs"]) == (None, 8)


def test_without_its_panel_nothing_is_adjusted(ground):
    control = {seed: RISING[seed] for seed in SEEDS[1:]}
    ground.ask("seed_spread", with_control(RISING, control))
    assert {(row["panel_delta"], row["adjusted_delta"]) for row in ground.ask("adjusted_deltas")} == {(None, None)}


SPREADS = st.lists(
    st.lists(st.floats(0.2, 0.6).map(lambda x: round(x, 4)), min_size=1, max_size=4), min_size=1, max_size=5
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SPREADS, st.lists(st.floats(0.2, 0.6).map(lambda x: round(x, 4)), min_size=4, max_size=4))
def test_sigma_and_rho_are_numpy_s(ground, levers, control):
    values = {f"lever-{i}": dict(zip(SEEDS, of_lever, strict=False)) for i, of_lever in enumerate(levers)}
    (sigma,) = ground.ask("pooled_sigma", values | {"control": dict(zip(SEEDS, control, strict=False))})
    several = [np.array(of_lever) for of_lever in levers if len(of_lever) > 1]
    assert sigma["sigma"] == pytest.approx(np.std(control, ddof=1), rel=1e-9, abs=1e-12)
    rows = ground.ask("seed_correlation")
    assert len(rows) == bool(several)
    if several:
        ours = np.concatenate([cell - cell.mean() if np.ptp(cell) else cell * 0 for cell in several])
        beside = [np.array(control[: len(cell)]) for cell in several]
        theirs = np.concatenate([cell - cell.mean() if np.ptp(cell) else cell * 0 for cell in beside])
        squares = (ours @ ours) * (theirs @ theirs)
        assert rows[0]["num_pairs"] == len(ours)
        assert rows[0]["rho"] == (pytest.approx(ours @ theirs / squares**0.5, abs=1e-9) if squares else None)


def spread(num: int, variance: float) -> dict[int, float]:
    """`num` values of that sample variance."""
    values = np.arange(num) - (num - 1) / 2
    return dict(zip(SEEDS, (values / values.std(ddof=1) * variance**0.5).tolist(), strict=False))


@pytest.mark.parametrize(
    ("ratio", "num", "others", "off"),
    [(6.0, 4, 8, 0.03), (3.0, 3, 8, 0.03), (9.0, 2, 8, 0.03), (0.2, 4, 8, 0.03), (0.01, 4, 8, 0.36)],
)
def test_the_score_is_near_that_of_the_f_distribution(ground, ratio, num, others, off):
    """By how much it is off at most: little, but for cells that hardly spread."""
    ground.ask("seed_spread", {"odd": spread(num, ratio), "control": spread(others, 1.0)})
    (row,) = ground.ask("unequal_variance where lever = 'odd'")
    assert (row["df"], row["others_df"], row["variance_ratio"]) == (num - 1, others - 1, pytest.approx(ratio))
    exact = stats.norm.isf(stats.f.sf(ratio, num - 1, others - 1))
    assert row["z"] == pytest.approx(exact, abs=off)


def test_a_lever_that_spreads_ten_times_as_far_is_told(ground):
    ground.ask("seed_spread", {"wild": spread(4, 100.0), "calm": spread(4, 1.0), "control": spread(8, 1.0)})
    assert {row["lever"]: row["is_unequal"] for row in ground.ask("unequal_variance")}["wild"]
    assert ground.ask("unequal_variance where lever = 'calm'")[0]["others_df"] == 3 + 7


def test_alone_there_is_nothing_to_compare_with(ground):
    (row,) = ground.ask("unequal_variance", {"control": spread(8, 1.0)})
    assert (row["variance_ratio"], row["z"], row["is_unequal"]) == (None, None, None)
