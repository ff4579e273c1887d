"""How many kernels are a training step and a panel on a GPU, and what do they imply? Counted where there is none.

Everything runs on torch's meta device, which works out shapes and computes nothing. What is counted: operations that
make or change a tensor (views are none), the bytes that each reads and writes, the floating-point operations of matrix
products. What is reckoned: the longest that any of these takes at the figures of one card's data sheet, kernel by
kernel. Real kernels do not reach a data sheet; these times are bounds and NOT MEASURED.

One command, a minute.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.evaluate.draws import CHUNKS_PER_BLOCK_OF_GPU
from flowlab.policy import sampler
from flowlab.policy.arithmetic import decoder_in
from flowlab.policy.decoder import Decoder
from flowlab.study.recipe import Recipe
from flowlab.train.cohort import Cohort, Run
from flowlab.train.data import Batch, Dropout
from flowlab.train.step import Step

META = torch.device("meta")
SPEC, HORIZON, CHANNELS = ConditionSpec(384, (TokenGroup("tokens", 12),)), 6, 2
STEPS, FRAMES = 3500, 15_000  # of a run of the published size, and of its panel

BYTES_A_SECOND = 4.8e12
PRODUCTS_A_SECOND = {"float32": 67e12, "tf32": 494e12, "bfloat16": 989e12}
"""NVIDIA H200 SXM, data sheet, dense."""
LEAST_OF_A_KERNEL = 2e-6  # seconds; assumed, of one that a graph launches


@dataclass(frozen=True)
class Kernel:
    """One operation that makes or changes a tensor."""

    name: str
    num_bytes: int
    num_flops: int

    def seconds(self, arithmetic: str) -> float:
        """The longest of what it must move, what it must compute, and what any kernel takes."""
        return max(self.num_bytes / BYTES_A_SECOND, self.num_flops / PRODUCTS_A_SECOND[arithmetic], LEAST_OF_A_KERNEL)


class Counter(TorchDispatchMode):
    """Within it kernels are counted, and a tensor that is not on the device is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        taken = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if {one.device.type for one in taken} == {"meta", "cpu"}:
            raise RuntimeError(f"{operation} takes a tensor that is not on the device")
        has_none = "_fused_adamw_" in operation.name()  # torch knows no shapes of it: it changes its arguments
        result = None if has_none else operation(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        on_device = any(one.device == META for one in [*taken, *made])
        if on_device and (operation._schema.is_mutable or not _is_view(made, taken)):
            num_bytes = sum(map(_bytes_of, taken)) + sum(map(_bytes_of, made))
            self.kernels.append(Kernel(operation.name(), num_bytes, _flops_of(operation.name(), taken, made)))
        return result


def _is_view(made: Sequence[Tensor], taken: Sequence[Tensor]) -> bool:
    places = {one.untyped_storage()._cdata for one in taken}
    return all(one.untyped_storage()._cdata in places for one in made)


def _bytes_of(x: Tensor) -> int:
    """What of memory it covers: an expanded axis lies there once."""
    entries = math.prod(size for size, stride in zip(x.shape, x.stride(), strict=True) if stride)
    return entries * x.element_size()


def _flops_of(name: str, taken: Sequence[Tensor], made: Sequence[Tensor]) -> int:
    """Two for each product of two numbers, in products of matrices and attention."""
    kind = name.split("::")[1].split(".")[0]
    if "dot_product" in kind:
        query, key, value = taken[:3]
        queries = math.prod(query.shape[:-1])
        return 2 * queries * query.shape[-1] * key.shape[-2] + 2 * queries * math.prod(value.shape[-2:])
    if kind in ("mm", "bmm"):
        return 2 * math.prod(made[0].shape) * taken[0].shape[-1]
    if kind in ("addmm", "baddbmm", "addmm_", "baddbmm_"):
        return 2 * math.prod(made[0].shape) * taken[1].shape[-1]
    return 0


def count_step(recipe: Recipe, num_runs: int) -> list[Kernel]:
    """The kernels of one step of so many runs of one seed; random bits are drawn before it."""
    with _without_values():
        runs = tuple(Run(str(run), "control", 1, recipe) for run in range(num_runs))
        step = Step(Cohort(runs), SPEC, HORIZON, CHANNELS, META)
        inputs = _inputs(num_runs, recipe.train.batch)
        step.dropout.ahead = True
        step.begin(0)
        with Counter():
            step(*inputs)  # the first sets things up
        with Counter() as counter:
            step(*inputs)
    return counter.kernels


def _inputs(num_runs: int, batch: int) -> tuple[Tensor, Batch]:
    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, device=META)

    condition = empty(1, batch, SPEC.num_tokens, SPEC.width).expand(num_runs, -1, -1, -1)
    chunks = (num_runs, batch, HORIZON, CHANNELS)
    return condition, Batch(empty(*chunks), empty(*chunks), empty(num_runs, batch), empty(num_runs, batch, CHANNELS))


@contextmanager
def _without_values() -> Iterator[None]:
    """Within it decoders are made on the meta device, and nothing is drawn: it has no random bits."""

    def build(settings, spec, horizon, num_channels, seeds, device):  # type: ignore[no-untyped-def]
        with device:
            return Decoder(len(seeds), settings, horizon, num_channels, spec)

    with patch("flowlab.train.step.build_decoder", build), patch.object(Dropout, "_draw"):
        yield


@torch.no_grad()
def count_block(recipe: Recipe) -> tuple[list[Kernel], int]:
    """The kernels of one block of a panel, and how many frames it has."""
    settings = recipe.evaluation
    num_frames = CHUNKS_PER_BLOCK_OF_GPU // settings.draws
    with META:
        made = Decoder(1, recipe.decoder, HORIZON, CHANNELS, SPEC)
        noise = torch.empty(1, num_frames, settings.draws, HORIZON, CHANNELS)
        condition = torch.empty(1, num_frames, SPEC.num_tokens, SPEC.width)
    decoder = decoder_in(settings.arithmetic, made)
    with patch("torch.nn.functional.scaled_dot_product_attention", _fused_attention), Counter() as counter:
        memory = decoder.remember(condition)
        sampler.sample(decoder, memory, noise, settings.solver, settings.solver_steps)
    return counter.kernels, num_frames


def _fused_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What a GPU takes for it; the meta device would take products, a softmax and copies."""
    return torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, None, False)[0]


def main() -> None:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    print("Counted on torch's meta device; times are reckoned from a data sheet (H200), NOT MEASURED on a GPU.\n")
    print(f"{'a step, published size':<24}{'kernels':>8}{'GFLOP':>8}{'GB':>7}{'ms':>7}{f's a run of {STEPS:,}':>18}")
    for arithmetic in PRODUCTS_A_SECOND:
        recipe = Recipe.model_validate({"train": {"arithmetic": arithmetic}})
        for num_runs in (1, 4):
            kernels = count_step(recipe, num_runs)
            seconds = sum(kernel.seconds(arithmetic) for kernel in kernels)
            each = seconds * STEPS / num_runs
            print(f"{f'{arithmetic}, {num_runs} together':<24}{_told(kernels)}{seconds * 1e3:>7.2f}{each:>18.1f}")
    print(f"\n{'a panel, K = 32, heun/32':<24}{'kernels':>8}{'GFLOP':>8}{'GB':>7}{'ms':>7}{f's of {FRAMES:,}':>18}")
    for arithmetic in PRODUCTS_A_SECOND:
        kernels, num_frames = count_block(Recipe.model_validate({"evaluation": {"arithmetic": arithmetic}}))
        seconds = sum(kernel.seconds(arithmetic) for kernel in kernels)
        whole = seconds * FRAMES / num_frames
        print(f"{f'{arithmetic}, {num_frames} frames':<24}{_told(kernels)}{seconds * 1e3:>7.1f}{whole:>18.1f}")


def _told(kernels: Sequence[Kernel]) -> str:
    flops, moved = sum(kernel.num_flops for kernel in kernels), sum(kernel.num_bytes for kernel in kernels)
    return f"{len(kernels):>8,}{flops / 1e9:>8,.0f}{moved / 1e9:>7.2f}"


if __name__ == "__main__":
    main()
