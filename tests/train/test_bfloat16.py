"""Training with products of bfloat16: what is rounded, what is not, and whose bits stay whose."""

import math

import torch

from flowlab.policy.decoder import run_weights
from tests.train.conftest import equal_weights, make_run


def rounded(seed: int = 1, run_id: str = "r", **changes):
    run = make_run(seed, run_id, **changes)
    train = run.recipe.train.model_copy(update={"arithmetic": "bfloat16"})
    return type(run)(run_id, run.lever, seed, run.recipe.model_copy(update={"train": train}))


def test_a_run_in_a_cohort_equals_the_run_alone(train):
    runs = (rounded(run_id="control"), rounded(run_id="lr", lr=1e-3), rounded(2, "seed", dropout=0.0))
    together = train(*runs)
    for position, run in enumerate(runs):
        alone = train(run)
        assert equal_weights(together, position, alone, 0), run.run_id
        assert together.rows[position] == alone.rows[0], run.run_id


def test_a_resumed_run_equals_one_that_was_never_stopped(train):
    run = rounded()
    whole = train(run, every_step=True)
    again = train(run, resume=[whole.kept[5][0]])
    assert equal_weights(whole, 0, again, 0)


def test_its_training_is_near_that_of_float32_and_not_the_same(train):
    ours, exact = train(rounded()), train(make_run())
    assert not equal_weights(ours, 0, exact, 0)
    losses = [{row.step: row.value for row in each.rows[0] if row.metric == "loss"} for each in (ours, exact)]
    assert losses[0].keys() == losses[1].keys() == {6, 12, 14}
    assert all(math.isclose(losses[0][step], losses[1][step], rel_tol=0.02) for step in losses[0])


def test_what_is_saved_has_all_bits_and_takes_steps_too_small_for_bfloat16(train):
    """A weight of bfloat16 moves by 1/256 of itself at least; ten steps of 1e-6 are less than that."""
    start = train(rounded(lr=1e-30)).trained.decoder
    end = train(rounded(lr=1e-6)).trained.decoder
    for name, weight in run_weights(end, 0).items():
        assert weight.dtype == torch.float32
        before = run_weights(start, 0)[name]
        if name.endswith("cross.query.weight"):
            assert 0 < (weight - before).abs().max() < 1e-4
            assert not torch.equal(weight, weight.bfloat16().float())
