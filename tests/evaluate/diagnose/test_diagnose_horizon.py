"""Skill by slot and the lag profile against chunks whose error is known."""

import numpy as np
import pytest

from flowlab.evaluate.diagnose.diagnosis import value_of
from flowlab.evaluate.diagnose.horizon import horizon
from tests.evaluate.diagnose.made_subject import made_subject

DRIVEN = np.array([0.0, 0.1, 0.4, 0.9, 1.6, 2.5, 3.6])  # steering of seven frames in a row; now is the third


def subject_of_a_curve():
    truth = np.zeros((1, 3, 2))
    truth[0, :, 1] = DRIVEN[3:6]
    past = np.zeros((1, 3, 2), np.float32)
    past[0, :, 1] = DRIVEN[:3]
    return made_subject(truth=truth, history=3, history_action=past)


def test_half_the_error_of_holding_now_is_a_skill_of_a_half() -> None:
    subject = subject_of_a_curve()
    draws = np.zeros((1, 1, 3, 2), np.float32)
    draws[0, 0, :, 1] = (DRIVEN[3:6] + DRIVEN[2]) / 2
    found = horizon(subject, draws)
    assert value_of(found.rows, "skill", "steering", "overall", "meank") == pytest.approx(0.5)
    assert value_of(found.rows, "skill", "steering", "slot:2", "single-mean") == pytest.approx(0.5)
    assert value_of(found.rows, "skill", "throttle", "overall", "meank") is None  # holding 0 is exact there


def test_draws_around_the_truth_have_a_better_mean_than_each_of_them() -> None:
    subject = subject_of_a_curve()
    draws = np.zeros((1, 2, 3, 2), np.float32)
    draws[0, :, :, 1] = DRIVEN[3:6] + np.array([[0.2], [-0.2]])
    found = horizon(subject, draws)
    assert value_of(found.rows, "skill", "steering", "overall", "meank") == pytest.approx(1.0, abs=1e-6)
    error_of_now = (0.5 + 1.2 + 2.1) / 3
    single = value_of(found.rows, "skill", "steering", "overall", "single-mean")
    assert single == pytest.approx(1 - 0.2 / error_of_now)


@pytest.mark.parametrize("lag", [0, 1, 2, 3])
def test_a_prediction_of_what_was_driven_before_has_that_lag(lag: int) -> None:
    subject = subject_of_a_curve()
    chunk = np.zeros((1, 3, 2))
    chunk[0, :, 1] = DRIVEN[3 - lag : 6 - lag]
    found = horizon(subject, chunk[:, None].astype(np.float32))
    assert value_of(found.rows, "best_lag", "steering", "overall", "meank") == lag
    assert value_of(found.rows, "lag_l1", "steering", f"lag:{lag}", "meank") == pytest.approx(0.0, abs=1e-6)
