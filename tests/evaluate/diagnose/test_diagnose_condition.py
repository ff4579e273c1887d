"""What a policy makes of its condition: without history, with another frame's tokens; and how much the tokens vary."""

import numpy as np
import pytest
import torch

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.evaluate.diagnose.attribution import attribution, permutations
from flowlab.evaluate.diagnose.diagnosis import value_of
from flowlab.evaluate.diagnose.history import history
from flowlab.evaluate.diagnose.rank import BLOCK_ROWS, effective_rank, rank, spectra
from tests.evaluate.diagnose.made_subject import REGRESSION, first_token, made_subject


def reader(values: list[float], truth: list[float]):
    """A regression that says the number in its first token; the second token says something that it ignores."""
    condition = torch.tensor([[[value], [3 * value + 1]] for value in values])
    chunks = np.array(truth)[:, None, None] * np.ones((1, 2, 2))
    groups = (("heard", 1), ("ignored", 1))
    return made_subject(first_token, chunks, condition=condition, groups=groups, objective=REGRESSION)


def test_a_group_that_is_ignored_has_an_attribution_of_0() -> None:
    found = attribution(reader([0.0, 0.5, 1.0, 0.25], [0.0, 0.5, 1.0, 0.25])).rows
    ignored = [row for row in found if row.readout == "ignored"]
    assert {row.metric for row in ignored} == {"attribution", "attribution_sd"}
    assert {row.value for row in ignored} == {0.0}
    assert value_of(found, "attribution", "steering", "overall", "heard") > 0.3


def test_two_frames_that_change_places_are_as_far_off_as_they_are_apart() -> None:
    found = attribution(reader([0.0, 1.0], [0.0, 1.0])).rows
    assert value_of(found, "attribution_l1", "steering", "overall", "meank") == 0.0
    for group in ("heard", "all-tokens"):
        assert value_of(found, "attribution", "steering", "overall", group) == 1.0
        assert value_of(found, "attribution_sd", "steering", "overall", group) == 0.0


def test_permutations_are_always_the_same_and_move_every_row() -> None:
    first, again = list(permutations(50)), list(permutations(50))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
        assert sorted(one) == list(range(50))
        assert (one != np.arange(50)).all()
    assert not np.array_equal(first[0], first[1])


def test_without_history_the_prediction_moves_by_what_the_condition_does() -> None:
    subject = reader([0.25, 0.75], [0.0, 1.0])
    found = history(subject, subject.frames.condition + 0.25).rows
    assert value_of(found, "history_shift", "steering", "overall", "no-history") == 0.25
    assert value_of(found, "history_l1", "steering", "overall", "normal") == 0.25
    assert value_of(found, "history_l1", "steering", "overall", "no-history") == (0.5 + 0.0) / 2
    assert value_of(found, "history_l1", "steering", "spike", "no-history") == 0.0
    assert value_of(found, "history_l1", "steering", "overall", "repeat-last") == 0.5  # now is 0 on both


@pytest.mark.parametrize("directions", [1, 3, 8])
def test_d_directions_of_equal_strength_have_rank_d(directions: int) -> None:
    vectors = torch.zeros(2 * directions, 1, 8)
    for index in range(directions):
        vectors[2 * index, 0, index], vectors[2 * index + 1, 0, index] = 1.0, -1.0
    found = rank(vectors.half(), ConditionSpec(8, (TokenGroup("only", 1),)))
    assert found.rows[0].slice == "overall"
    assert [row.value for row in found.rows] == pytest.approx([directions] * 3)  # all, the group, its only token


def test_tokens_that_never_vary_have_rank_0() -> None:
    found = rank(torch.full((5, 1, 4), 0.3).half(), ConditionSpec(4, (TokenGroup("only", 1),)))
    assert {row.value for row in found.rows} == {0.0}


def test_the_mean_of_the_tokens_does_not_count() -> None:
    tokens = torch.tensor([[[100.0, 1.0]], [[100.0, -1.0]]])
    assert rank(tokens.half(), ConditionSpec(2, (TokenGroup("only", 1),))).rows[0].value == pytest.approx(1.0)


def test_spectra_in_blocks_are_the_singular_values_of_each_set_of_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    condition = (torch.randn(BLOCK_ROWS + 17, 3, 6, generator=generator) * torch.arange(1, 7) + 5).half()
    found = spectra(condition, ConditionSpec(6, (TokenGroup("one", 1), TokenGroup("pair", 2))))
    assert list(found) == ["overall", "one:1", "one", "pair:1", "pair:2", "pair"]
    for name, tokens in (("overall", condition), ("one", condition[:, :1]), ("pair:2", condition[:, 2:])):
        vectors = tokens.double().flatten(0, 1).numpy()
        direct = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False)
        np.testing.assert_allclose(found[name], direct, rtol=1e-9)
        assert effective_rank(found[name]) == pytest.approx(effective_rank(direct), rel=1e-9)
