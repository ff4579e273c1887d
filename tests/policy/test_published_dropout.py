"""Dropout sits where the published decoder has it: the same masks there give the same numbers, and there are no others.

The published places: the weights of both attentions, what both attentions add, and the MLP's hidden layer after the
gate.
"""

import pytest
import torch
from torch import Tensor

from flowlab.study.recipe import Recipe
from flowlab.train.cohort import Cohort, Run
from flowlab.train.data import Dropout
from tests.policy.published_sizes import (
    CHANNELS,
    HORIZON,
    SMALL,
    TOKENS,
    inputs,
    published,
    published_regression,
    somewhat_trained,
)

PLACES = {
    "cross.weights": "cross weights",
    "cross": "cross residual",
    "slots.weights": "slot weights",
    "slots": "slot residual",
    "mlp.hidden": "hidden",
}
"""flowlab's name of a place in a block: that of the reference."""
RATE, FRAMES, DRAWS = 0.3, 4, 2
TIMES = torch.tensor([0.1, 0.4, 0.6, 0.9])
QUERIES = SMALL.model_copy(update={"kind": "slot-queries"})


class RecordedDropout:
    """The training loop's own dropout, and the masks that it has used, by place."""

    def __init__(self) -> None:
        recipe = Recipe(decoder=SMALL.model_copy(update={"dropout": RATE}))
        self.dropout = Dropout(Cohort((Run("run", "control", 1001, recipe),)), torch.device("cpu"))
        self.masks: dict[str, Tensor] = {}

    def __call__(self, name: str, x: Tensor) -> Tensor:
        assert name not in self.masks, f"{name} is asked about twice"
        self.masks[name] = self.dropout(name, torch.ones_like(x))
        return self.dropout(name, x)

    def by_block(self) -> dict[int, dict[str, Tensor]]:
        """The masks as the reference takes them: one batch of all frames and draws."""
        blocks: dict[int, dict[str, Tensor]] = {}
        for name, mask in self.masks.items():
            _, number, place = name.split(".", 2)
            one_batch = mask[0]
            if place == "cross.weights":  # (B, heads, K * H, S): the slots of a frame's draws ask as one
                one_batch = one_batch.unflatten(2, (-1, HORIZON)).transpose(1, 2)
            if place != "slots.weights":  # that one is (B * K, heads, H, H)
                one_batch = one_batch.flatten(0, 1)
            blocks.setdefault(int(number), {})[PLACES[place]] = one_batch
        return blocks


def dropped_velocities() -> tuple[RecordedDropout, Tensor, Tensor]:
    """The masks, and for them what flowlab and the published decoder say: (B * K, H, M) each."""
    ours, drop = somewhat_trained(SMALL), RecordedDropout()
    xt, condition = inputs(FRAMES * DRAWS)
    condition = condition[:FRAMES]
    with torch.no_grad():
        found = ours(xt.reshape(1, FRAMES, DRAWS, HORIZON, CHANNELS), TIMES[None], ours.remember(condition[None]), drop)
        each = (x.repeat_interleave(DRAWS, dim=0) for x in (TIMES, condition))
        return drop, found.reshape(xt.shape), published(ours, SMALL)(xt, *each, drop.by_block())


def test_the_same_masks_give_the_same_velocities():
    _, found, expected = dropped_velocities()
    assert (found - expected).abs().max() < 1e-5


def test_dropout_is_at_the_published_places_of_every_block_and_nowhere_else():
    drop, _, _ = dropped_velocities()
    assert list(drop.masks) == [f"blocks.{block}.{place}" for block in range(SMALL.layers) for place in PLACES]
    shapes = [tuple(mask.shape) for mask in drop.masks.values()]
    heads, width = SMALL.heads, SMALL.width
    in_weights = (1, FRAMES, heads, DRAWS * HORIZON, TOKENS), (1, FRAMES * DRAWS, heads, HORIZON, HORIZON)
    elsewhere = (1, FRAMES, DRAWS, HORIZON, width)
    assert shapes == SMALL.layers * [in_weights[0], elsewhere, in_weights[1], elsewhere, elsewhere]


def test_a_mask_keeps_the_others_in_proportion():
    drop, _, _ = dropped_velocities()
    for name, mask in drop.masks.items():
        assert mask.unique().tolist() == pytest.approx([0, 1 / (1 - RATE)], rel=1e-5), name  # rates are rounded
        assert (mask == 0).float().mean().item() == pytest.approx(RATE, abs=0.06), name


@pytest.mark.parametrize("place", PLACES.values())
def test_each_place_counts(place):
    """So the comparison would not pass with a place left out."""
    ours, drop = somewhat_trained(SMALL), RecordedDropout()
    xt, condition = inputs(FRAMES)
    with torch.no_grad():
        found = ours(xt[None, :, None], TIMES[None], ours.remember(condition[None]), drop)[0, :, 0]
        masks = {block: {p: m for p, m in at.items() if p != place} for block, at in drop.by_block().items()}
        assert (found - published(ours, SMALL)(xt, TIMES, condition, masks)).abs().max() > 1e-3


def test_a_regression_drops_at_the_same_places():
    ours, drop = somewhat_trained(QUERIES), RecordedDropout()
    xt, condition = inputs(FRAMES)
    with torch.no_grad():
        found = ours(xt[None, :, None], TIMES[None], ours.remember(condition[None]), drop)[0, :, 0]
        expected = published_regression(ours, QUERIES)(condition, drop.by_block())
    assert list(drop.masks) == [f"blocks.{block}.{place}" for block in range(SMALL.layers) for place in PLACES]
    assert (found - expected).abs().max() < 1e-5
