"""What a step and a block of draws are on a GPU, counted on a device that has no values."""

import math

import pytest
import torch
from operations import META, Counter, count_block, count_step

from flowlab.study.recipe import Recipe
from flowlab.train.step import Step

SMALL = {"width": 16, "heads": 2, "layers": 2}
RECIPES = {
    "control": {},
    "residuals": {"decoder": {"dropout_at": "residuals"}},
    "average": {"train": {"ema_decay": 0.9}},
    "beta": {"objective": {"flow_time": {"kind": "beta"}}},
    "everything": {
        "decoder": {
            "slot_adaln": True,
            "condition_norm": True,
            "condition_adaln": True,
            "adaln_silu": True,
            "final_norm": True,
            "rotary_slots": False,
        }
    },
}


def small(arithmetic: str = "float32", batch: int = 8, **tables) -> Recipe:
    decoder, train = tables.pop("decoder", {}), tables.pop("train", {})
    return Recipe.model_validate(
        {
            "decoder": SMALL | decoder,
            "train": {"batch": batch, "arithmetic": arithmetic} | train,
            "evaluation": {"draws": 4, "solver_steps": 2, "arithmetic": arithmetic},
            **tables,
        }
    )


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
@pytest.mark.parametrize("tables", RECIPES.values(), ids=RECIPES)
def test_a_step_reads_no_value_back_and_takes_nothing_from_the_host(tables, arithmetic):
    """The meta device has no values to read, and the counter refuses a tensor from elsewhere."""
    assert count_step(small(arithmetic, **tables), 2)


def test_a_step_that_reads_a_value_is_found_out(monkeypatch):
    look = Step.__call__
    monkeypatch.setattr(Step, "__call__", lambda self, *inputs: float(look(self, *inputs)["loss"][0]))
    with pytest.raises(RuntimeError, match="item"):
        count_step(small(), 1)


def test_a_tensor_of_the_host_is_found_out():
    with Counter(), pytest.raises(RuntimeError, match="not on the device"):
        torch.add(torch.zeros(3, device=META), torch.zeros(()))


def test_a_product_is_counted_by_hand():
    """(3, 4) @ (4, 5): 3 * 5 * 4 products and sums; 12 + 20 + 15 numbers of 4 bytes. A view is no kernel."""
    with Counter() as counter:
        product = torch.empty(3, 4, device=META) @ torch.empty(4, 5, device=META)
        product.t().unsqueeze(0)
    (made, other, kernel) = counter.kernels
    assert (made.num_bytes, other.num_bytes, made.num_flops) == (48, 80, 0)
    assert (kernel.name, kernel.num_flops, kernel.num_bytes) == ("aten::mm", 120, 4 * (12 + 20 + 15))
    assert kernel.seconds("float32") == 2e-6


def test_an_expanded_axis_is_in_memory_once():
    with Counter() as counter:
        torch.empty(1, 8, device=META).expand(100, 8) + 1
    assert counter.kernels[-1].num_bytes == 4 * (8 + 800)


def test_what_a_step_multiplies_grows_with_runs_and_batch_alone():
    one, four, larger = (sum(k.num_flops for k in count_step(small(batch=b), r)) for r, b in ((1, 8), (4, 8), (1, 16)))
    assert four == 4 * one
    assert 1.9 < larger / one <= 2


def test_runs_together_are_hardly_more_kernels_than_one():
    """What runs have of their own: their clipping and two kernels of AdamW."""
    one, four = (len(count_step(small(), num_runs)) for num_runs in (1, 4))
    assert one < four < one + 3 * 20
    assert four < 1.3 * one


@pytest.mark.parametrize("arithmetic", ["float32", "tf32", "bfloat16"])
def test_a_block_of_draws_reads_no_value_back(arithmetic):
    kernels, num_frames = count_block(small(arithmetic))
    assert num_frames == 4096
    assert math.log10(sum(kernel.num_flops for kernel in kernels)) > 9
