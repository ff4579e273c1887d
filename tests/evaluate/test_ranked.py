"""What hand-made scores make of hand-made draws: chunks, and how good the choice is."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from flowlab.core.errors import DivergedError
from flowlab.evaluate.cloud import Cloud
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.places import Places
from flowlab.evaluate.ranked import (
    Choice,
    draw_errors,
    ranked_rows,
    ranker_readouts,
    score_draws,
    scored_mode,
    soft_mean,
    top_mean,
)
from flowlab.policy.ranker import Ranker, RankerSizes, build_ranker
from flowlab.study.ranker import RankerSettings
from flowlab.study.selection import SelectionSettings
from tests.evaluate.made_frames import made_frames

SELECTION = SelectionSettings(channel="x")


def of_values(*frames: Sequence[float]) -> NDArray[np.float32]:
    """Draws (N, K, 1, 1) of these values."""
    return np.array(frames, np.float32)[:, :, None, None]


def frames_of(*truth: float) -> ValidationFrames:
    condition = torch.zeros(len(truth), 2, 3, dtype=torch.float16)
    return made_frames(np.array(truth, np.float32)[:, None, None], ("x",), condition=condition)


def ranker() -> Ranker:
    """One of single slots of one channel, untrained."""
    return build_ranker(RankerSizes(8, 2, 3, 1, 1), [0], torch.device("cpu"))


def test_the_softmax_weighs_by_scores_over_the_temperature() -> None:
    """exp(4 ln 3 / 4) = 3: three quarters of the second draw."""
    chunk = soft_mean(of_values([0.0, 1.0]), np.array([[0.0, 4 * np.log(3)]]), 4.0)
    assert chunk.ravel().tolist() == pytest.approx([0.75])


def test_equal_scores_make_the_mean() -> None:
    draws, scores = of_values([0.0, 0.5, 1.0]), np.full((1, 3), 7.0)
    assert soft_mean(draws, scores, 4.0).item() == top_mean(draws, scores, 3).item() == pytest.approx(0.5)


def test_the_best_ones_are_averaged_the_first_of_equal_ones_and_all_if_there_are_fewer() -> None:
    draws, scores = of_values([1.0, 2.0, 4.0, 8.0]), np.array([[0.0, 3.0, 5.0, 3.0]])
    assert [top_mean(draws, scores, top).item() for top in (1, 2, 9)] == [4.0, 3.0, 3.75]


def test_one_draw_is_the_chunk_whatever_its_score() -> None:
    draws, scores = of_values([0.25]), np.array([[-100.0]])
    assert soft_mean(draws, scores, 4.0).item() == top_mean(draws, scores, 4).item() == 0.25
    assert scored_mode(Cloud(draws, frames_of(0.0), SELECTION), scores).item() == 0.25


def modes_of(scores: Sequence[float], draws: Sequence[float] = (0.0, 0.0, 0.0, 1.0)) -> float:
    cloud = Cloud(of_values(draws), frames_of(0.0), SELECTION)
    return scored_mode(cloud, np.array([scores], float)).item()


def test_the_mode_with_more_of_the_scores_is_taken() -> None:
    """Three draws of weight 1 beside one of weight 2, then of weight 4."""
    assert modes_of([0.0, 0.0, 0.0, np.log(2)]) == 0.0
    assert modes_of([0.0, 0.0, 0.0, np.log(4)]) == 1.0


def test_scores_that_know_nothing_leave_the_larger_mode_and_of_equal_ones_the_lower() -> None:
    assert modes_of([5.0, 5.0, 5.0, 5.0]) == 0.0
    assert modes_of([5.0, 5.0, 5.0, 5.0], (1.0, 0.0, 1.0, 0.0)) == 0.0


def test_draws_of_one_mode_are_averaged_whatever_their_scores() -> None:
    assert modes_of([0.0, 0.0, 0.0, 9.0], (0.0, 0.0, 0.1, 0.1)) == pytest.approx(0.05)


def test_the_rank_counts_the_draws_that_are_better() -> None:
    """Picked are 0.3 off (0 and 0.2 are better), 0.1 off (the best), and one of two that are as good."""
    frames = frames_of(0.0, 0.0, 0.0)
    draws = of_values([0.0, 0.2, 0.3], [0.1, 0.2, 0.3], [0.1, -0.1, 0.3])
    scores = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    choice = Choice(Cloud(draws, frames, SELECTION), scores, draw_errors(draws, frames, "x", clip=False))
    assert choice.rank.tolist() == [3, 1, 1]


def test_it_agrees_where_the_mode_it_prefers_is_the_nearer_one() -> None:
    """Modes at 0 and 1, the truth 0.9: the first scores prefer 0, the second 1; the third frame has one mode."""
    frames = frames_of(0.9, 0.9, 0.9)
    draws = of_values([0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0])
    scores = np.array([[9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0], [0.0, 0.0, 0.0, 0.0]])
    choice = Choice(Cloud(draws, frames, SELECTION), scores, draw_errors(draws, frames, "x", clip=False))
    assert choice.agrees.tolist() == [False, True]


def test_errors_are_of_one_channel_or_of_all_and_of_what_is_held() -> None:
    frames = made_frames(np.array([[[0.0, 0.5, 1.0]]], np.float32))
    draws = np.array([[[[0.0, 0.5, 1.6]]]], np.float32)
    assert draw_errors(draws, frames, "steering", clip=False).item() == pytest.approx(0.6)
    assert draw_errors(draws, frames, "steering", clip=True).item() == 0.0
    assert draw_errors(draws, frames, None, clip=False).item() == pytest.approx(0.2)


def test_draws_that_are_not_finite_are_never_chosen_among() -> None:
    with pytest.raises(DivergedError, match="draws are not finite on 1 of 2 frames"):
        score_draws(ranker(), of_values([0.0, np.nan], [0.0, 1.0]), frames_of(0.0, 0.0))


def test_rows_are_of_every_readout_and_of_the_choice_on_slices_that_hold_frames() -> None:
    frames = frames_of(0.9, 0.1)
    draws = of_values([0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0])
    definitions = define_metrics({}, ("x",), {"x": 0.0})
    settings = RankerSettings(width=8, channel="x")
    rows = ranked_rows(ranker_readouts(ranker(), settings, SELECTION), draws, Places(frames, definitions), clip=False)
    names = ["ranker-width8", "ranker-top1-width8", "ranker-top4-width8", "ranker-mode-width8"]
    l1 = [row for row in rows if (row.metric, row.channel, row.slice, row.drive) == ("l1", "x", "overall", "")]
    assert [row.readout for row in l1] == names
    choice = {row.metric: row for row in rows if row.metric.startswith("ranker_") and not row.drive}
    assert choice["ranker_hit_rate"].readout == choice["ranker_pick_rank"].readout == "ranker-top1-width8"
    assert choice["ranker_mode_agreement"].readout == "ranker-mode-width8"
    assert {row.channel for row in choice.values()} == {"x"}
    assert np.isfinite([row.value for row in rows]).all()


def test_without_modes_there_is_no_mode_picker() -> None:
    readouts = ranker_readouts(ranker(), RankerSettings(width=8, channel="all", top=1), None)
    assert [one.name for one in readouts] == ["ranker-width8-of-all", "ranker-top1-width8-of-all"]
