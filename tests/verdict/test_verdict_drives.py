"""How much an effect depends on which drives validate."""

import hashlib

import numpy as np
import pytest

from tests.verdict.campaign import PRIMARY, Campaign, panel_rule


def noise_of(campaign: Campaign, lever: str = "lever") -> float | None:
    (row,) = campaign.ask(f"effects where lever = '{lever}'")
    return row["evaluation_noise"]


def picks(num_drives: int) -> np.ndarray:
    """(200, D): which drive each draw of each resample takes, as the view has it."""
    digests = [
        [hashlib.md5(f"{resample},{draw}".encode()).digest()[8:] for draw in range(1, num_drives + 1)]
        for resample in range(1, 201)
    ]
    return np.array([[int.from_bytes(digest, "little") % num_drives for digest in row] for row in digests])


def test_evaluation_noise_of_two_drives_is_near_what_theory_says(ledger, runs):
    """Effects of 0.02 and 0 on drives of one size: a resample's is 0.02, 0.01, 0.01 or 0, the sd 0.01 / sqrt 2."""
    campaign = Campaign(ledger, runs, panel_rule())
    for seed in (1001, 1002):
        campaign.run("control", seed, 0.40, drives={"a": (10, 0.42), "b": (10, 0.38)})
    campaign.run("lever", 1001, 0.39, drives={"a": (10, 0.40), "b": (10, 0.38)})
    assert noise_of(campaign) == pytest.approx(0.01 / 2**0.5, rel=0.05)


def test_evaluation_noise_is_numpy_s_on_the_same_resamples(ledger, runs):
    stream = np.random.Generator(np.random.Philox(3))
    frames = {"a": 5, "b": 20, "c": 1, "d": 8}
    campaign = Campaign(ledger, runs, panel_rule())
    values = {}
    for lever, seed in [("control", 1001), ("control", 1002), ("lever", 1001), ("lever", 1002)]:
        values[lever, seed] = stream.uniform(0.2, 0.6, len(frames))
        drives = {name: (num, values[lever, seed][i]) for i, (name, num) in enumerate(frames.items())}
        campaign.run(lever, seed, 0.4, drives=drives)
    means = {lever: (values[lever, 1001] + values[lever, 1002]) / 2 for lever in ("control", "lever")}
    sizes, effect = np.array(list(frames.values())), means["control"] - means["lever"]
    resamples = [(sizes[pick] * effect[pick]).sum() / sizes[pick].sum() for pick in picks(4)]
    assert noise_of(campaign) == pytest.approx(np.std(resamples, ddof=1), rel=1e-9)


def test_a_rule_over_all_frames_takes_the_drives_themselves(ledger, runs):
    """`overall` on a drive is `drive:ID`. The numbers are those of the two drives above."""
    rule = panel_rule().model_copy(update={"primary": PRIMARY.model_copy(update={"slice": "overall"})})
    campaign = Campaign(ledger, runs, rule)
    for seed in (1001, 1002):
        campaign.run("control", seed, 0.40, drives={"a": (10, 0.42), "b": (10, 0.38)})
    campaign.run("lever", 1001, 0.39, drives={"a": (10, 0.40), "b": (10, 0.38)})
    assert noise_of(campaign) == pytest.approx(0.01 / 2**0.5, rel=0.05)


def test_an_incomplete_panel_has_no_evaluation_noise_either(ledger, runs):
    campaign = Campaign(ledger, runs, panel_rule())
    campaign.run("control", 1001, 0.40, drives={"a": (10, 0.42), "b": (10, 0.38)})
    campaign.run("lever", 1001, 0.39, drives={"a": (10, 0.40), "b": (10, 0.38)})
    assert noise_of(campaign) is None


def test_a_lever_that_is_as_much_better_on_each_drive_has_no_evaluation_noise(ledger, runs):
    """The runs differ by drive, the effect does not: it is the effect that is resampled."""
    campaign = Campaign(ledger, runs, panel_rule())
    for seed in (1001, 1002):
        campaign.run("control", seed, 0.5, drives={"a": (10, 0.75), "b": (30, 0.25)})
    campaign.run("lever", 1001, 0.4, drives={"a": (10, 0.625), "b": (30, 0.125)})
    assert noise_of(campaign) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("lacks", ["control", "lever", "second drive"])
def test_no_evaluation_noise_where_drives_are_not_told_apart(ledger, runs, lacks):
    drives = {"a": (10, 0.4)} if lacks == "second drive" else {"a": (10, 0.4), "b": (10, 0.3)}
    campaign = Campaign(ledger, runs, panel_rule())
    campaign.run("control", 1001, 0.4, drives=drives)
    campaign.run("control", 1002, 0.4, drives=None if lacks == "control" else drives)
    campaign.run("lever", 1001, 0.3, drives=drives)
    campaign.run("lever", 1002, 0.3, drives=None if lacks == "lever" else drives)
    assert noise_of(campaign) is None
