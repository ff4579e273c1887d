"""Hits counted by hand, and which frames the fan shows."""

import numpy as np
import pytest

from flowlab.core.errors import PolicyError
from flowlab.core.types import MetricRow
from flowlab.evaluate.diagnose.fan import fan, hits, telling_frames
from tests.evaluate.diagnose.made_subject import REGRESSION, made_subject


def draws_at(*steering: list[float]) -> np.ndarray:
    """Draws (N, K, 2, 2) whose steering is the same in both slots, one list of K a frame."""
    draws = np.zeros((len(steering), len(steering[0]), 2, 2), np.float32)
    draws[..., 1] = np.array(steering, np.float32)[..., None]
    return draws


def values(rows: list[MetricRow], metric: str, where: str) -> dict[str, float]:
    return {row.readout: row.value for row in rows if (row.metric, row.slice) == (metric, where)}


def test_hits_are_shares_of_frames_and_of_draws() -> None:
    truth = np.zeros((2, 2, 2))
    truth[1, :, 1] = 0.8  # the second frame is a spike
    subject = made_subject(truth=truth)
    found = hits(subject, draws_at([0.04, -0.04, 0.3, -0.3], [0.0, 0.0, 0.0, 0.9]))
    assert values(found, "hit@0.05", "overall") == {
        "best-draw": 0.5,
        "single-mean": 0.25,
        "meank": 0.5,
        "repeat-last": 0.5,
    }
    assert values(found, "hit@0.2", "spike") == {
        "best-draw": 1.0,
        "single-mean": 0.25,
        "meank": 0.0,
        "repeat-last": 0.0,
    }
    assert {row.channel for row in found} == {"steering"}


def test_a_distance_is_the_mean_over_slots() -> None:
    subject = made_subject(truth=np.zeros((1, 2, 2)))
    draws = np.zeros((1, 1, 2, 2), np.float32)
    draws[0, 0, :, 1] = [0.0, 0.15]  # 0.075 off on average
    found = hits(subject, draws)
    assert values(found, "hit@0.05", "overall")["best-draw"] == 0.0
    assert values(found, "hit@0.1", "overall")["best-draw"] == 1.0


def test_frames_are_shown_for_different_reasons_each_once() -> None:
    spread, error = np.array([0.1, 0.5, 0.2, 0.3]), np.array([0.0, 0.9, 0.8, 0.0])
    masks = {"overall": np.ones(4, bool), "spike": np.array([False, True, True, True])}
    assert telling_frames(spread, error, masks) == [
        ("widest fan", 1),
        ("spike, median fan", 3),
        ("narrowest fan", 0),
    ]


def test_a_regression_has_no_fan() -> None:
    subject = made_subject(objective=REGRESSION)
    with pytest.raises(PolicyError, match="is a regression, so each frame has one draw"):
        fan(subject, draws_at([0.0], [0.0], [0.0]))
