"""Rollouts of policies that can be followed by hand: one that holds the last action, one that knows the truth."""

import numpy as np
import pytest

from flowlab.evaluate.diagnose.diagnosis import value_of
from flowlab.evaluate.diagnose.rollout import legs, report, roll_out
from tests.evaluate.diagnose.made_subject import made_subject


def driving(steering: list[float], drive_starts: tuple[int, ...] = (0,), missing: tuple[int, ...] = ()):
    """A subject of windows (T = 2, H = 2) over one long recording of that steering, and none whose now is missing."""
    action = np.zeros((len(steering), 2), np.float32)
    action[:, 1] = steering
    ends = [*drive_starts[1:], len(steering)]
    nows, drive = [], []
    for index, (start, end) in enumerate(zip(drive_starts, ends, strict=True)):
        for now in range(start + 1, end - 2):
            if now not in missing:
                nows.append(now)
                drive.append(index)
    truth = np.stack([action[now + 1 : now + 3] for now in nows])
    past = np.stack([action[now - 1 : now + 1] for now in nows])
    return made_subject(truth=truth, now=nows, drive=drive, history_action=past)


def hold_last(rows: np.ndarray, past: np.ndarray) -> np.ndarray:
    return np.repeat(past[:, -1:], 2, axis=1).astype(np.float64)


def test_a_policy_that_holds_the_last_action_holds_the_first_one_for_ever() -> None:
    subject = driving([0.0, 0.0, 0.1, 0.3, 0.6, 1.0, 1.0])  # now goes from frame 1 to 4
    rolled = roll_out(subject.frames, hold_last)
    assert rolled.chunk[..., 1].tolist() == [[0.0, 0.0]] * 4
    np.testing.assert_allclose(rolled.off[:, 1], [0.1, 0.3, 0.6], rtol=1e-6)  # what was driven at frames 2, 3, 4
    assert (rolled.num_starts, rolled.num_restarts) == (1, 0)
    np.testing.assert_allclose(rolled.since_s, [0.0, 0.1, 0.2, 0.3])


def test_a_policy_that_knows_the_truth_substitutes_what_was_recorded() -> None:
    subject = driving([0.0, 0.2, 0.1, 0.3, 0.6, 1.0, 0.5])
    rolled = roll_out(subject.frames, lambda rows, past: subject.frames.truth[rows].astype(np.float64))
    assert rolled.off.shape == (3, 2)
    assert not rolled.off.any()


def test_the_past_that_is_seen_is_moved_by_one_frame_each_time() -> None:
    seen = []

    def step(rows: np.ndarray, past: np.ndarray) -> np.ndarray:
        seen.append(past[0, :, 1].tolist())
        return np.full((len(rows), 2, 2), float(len(seen)))

    roll_out(driving([0.5, 0.25, 0.0, 0.0, 0.0, 0.0]).frames, step)
    assert seen == [[0.5, 0.25], [0.25, 1.0], [1.0, 2.0]]


def test_a_gap_begins_anew_from_what_was_recorded() -> None:
    subject = driving([0.0, 0.0, 0.1, 0.3, 0.6, 1.0, 0.7, 0.2], missing=(3,))  # now: 1, 2, then 4, 5
    rolled = roll_out(subject.frames, hold_last)
    assert [leg.tolist() for leg in legs(subject.frames)] == [[0, 1], [2, 3]]
    np.testing.assert_allclose(rolled.chunk[:, 0, 1], [0.0, 0.0, 0.6, 0.6], rtol=1e-6)
    assert (rolled.num_starts, rolled.num_drives, rolled.num_restarts) == (2, 1, 1)


def test_drives_roll_out_side_by_side_and_do_not_mix() -> None:
    batches = []

    def watched(rows: np.ndarray, past: np.ndarray) -> np.ndarray:
        batches.append(len(rows))
        return hold_last(rows, past)

    subject = driving([0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.7, 0.0, 0.0], drive_starts=(0, 5))
    rolled = roll_out(subject.frames, watched)
    assert batches == [2, 1]
    np.testing.assert_allclose(rolled.chunk[:, 0, 1], [0.5, 0.5, 0.7], rtol=1e-6)


def test_rows_tell_the_substitutions_and_the_drift() -> None:
    subject = driving([0.0, 0.0, 0.1, 0.3, 0.6, 1.0, 1.0])
    rolled = roll_out(subject.frames, hold_last)
    found = report(subject, rolled, subject.frames.truth.astype(np.float64))
    assert value_of(found.rows, "num_substitutions", "", "overall", "rolled-out") == 3
    assert value_of(found.rows, "num_restarts", "", "overall", "rolled-out") == 0
    size = value_of(found.rows, "substitution_l1", "steering", "overall", "rolled-out")
    assert size == pytest.approx((0.1 + 0.3 + 0.6) / 3)
    assert value_of(found.rows, "rollout_l1", "steering", "overall", "as-recorded") == 0
    own = value_of(found.rows, "rollout_l1", "steering", "since:0s", "rolled-out")
    assert own == pytest.approx(np.mean([0.1, 0.3, 0.3, 0.6, 0.6, 1.0, 1.0, 1.0]))
    assert value_of(found.rows, "rollout_l1", "steering", "since:1s", "rolled-out") is None
    assert "the place of 3 recorded ones" in found.says[0]
