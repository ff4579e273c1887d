"""The decoder: noisy chunk, flow time and condition -> velocity. Every tensor carries the run axis R in front."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.core.errors import CacheMismatchError
from flowlab.core.types import ConditionSpec
from flowlab.core.vocabulary import IMAGE_TOKENS, WAYPOINT_TOKENS
from flowlab.encoder.transformer import RotaryAngles
from flowlab.policy.layers import (
    AffineNorm,
    Attention,
    Drop,
    GatedMLP,
    Stacked,
    StackedLinear,
    StackedMLP,
    StackedParameter,
    in_whole_vectors,
    keep_all,
    modulate,
    norm,
    side_by_side,
    stacked_parameter,
)
from flowlab.policy.streams import stream
from flowlab.study.recipe import DecoderSettings


class AnyDecoder(Protocol):
    """R decoders of one shape, flowlab's own or a plug-in behind `policy/foreign.py`."""

    num_runs: int
    horizon: int
    num_channels: int

    def remember(self, condition: Tensor) -> Any:
        """What of the condition (R, B, S, D) is computed once per frame, for all draws and all solver steps."""

    def __call__(self, xt: Tensor, t: Tensor, memory: Any, drop: Drop = ...) -> Tensor:
        """Velocity (R, B, K, H, M) at x_t of that shape and flow time t, (R, B) or (R, 1) when all frames share it."""

    def named_stacked(self) -> list[tuple[str, StackedParameter]]:
        """Every parameter (R, ...) by name."""

    def run_buffers(self, run: int) -> dict[str, Tensor]:
        """What one run's policy consists of besides its parameters, by name."""


@dataclass(frozen=True)
class Memory:
    """What is computed of the condition once per frame, shared by all draws and all solver steps."""

    keys_values: list[tuple[Tensor, Tensor]]  # of each block
    pooled: Tensor | None  # (R, B, W), added to the time embedding


class TimeEmbedding(nn.Module):
    """(R, B) -> (R, B, W): sinusoids of 1000 t, then t itself and 0.25 logit(t), through a 4x SiLU MLP."""

    def __init__(self, num_runs: int, settings: DecoderSettings) -> None:
        super().__init__()
        self.settings, width = settings, settings.width
        self.enter = StackedLinear(num_runs, width, 4 * width, settings.init)
        self.leave = StackedLinear(num_runs, 4 * width, width, settings.init)

    def features(self, t: Tensor) -> Tensor:
        """(R, B, W): sin and cos of W / 2 - 1 waves each, t, 0.25 logit(t)."""
        num_waves = (self.settings.width - 2) // 2
        wave = torch.arange(num_waves, device=t.device) + self.settings.first_wave
        rates = torch.exp(wave * (-math.log(10_000.0) / num_waves))
        angle = 1000.0 * t.unsqueeze(-1) * rates
        waves = [in_whole_vectors(torch.sin, angle), in_whole_vectors(torch.cos, angle)]
        logit = in_whole_vectors(partial(torch.logit, eps=self.settings.logit_limit), t)
        return torch.cat([*waves, t.unsqueeze(-1), 0.25 * logit.unsqueeze(-1)], dim=-1)

    def forward(self, t: Tensor) -> Tensor:
        # contiguous: a kernel takes an expanded t entry by entry, not in whole vectors
        hidden = self.enter(self.features(t.contiguous()))
        return self.leave(in_whole_vectors(F.silu, hidden))


class ConditionEntry(nn.Module):
    """Condition (R, B, S, D) -> what the blocks attend to (R, B, S, source width), and its pooled summary."""

    def __init__(self, num_runs: int, settings: DecoderSettings, spec: ConditionSpec) -> None:
        super().__init__()
        width = settings.width
        self.settings = settings
        self.source_width = spec.width if settings.condition_projection == "none" else width
        self.project: nn.Module = nn.Identity()
        if settings.condition_projection == "linear":
            self.project = StackedLinear(num_runs, spec.width, width, settings.init)
        elif settings.condition_projection == "mlp":
            self.project = StackedMLP(num_runs, spec.width, width, width, settings.init)
        if settings.waypoint_embedding:
            self.at_waypoints = token_range(spec, WAYPOINT_TOKENS)
            num_waypoints = len(self.at_waypoints)
            self.waypoint = stacked_parameter(num_runs, num_waypoints, self.source_width, init="zeros")
            self.num_tokens = spec.num_tokens
        if settings.condition_adaln:
            self.pool = StackedLinear(num_runs, self.source_width, width, init="zeros")

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor | None]:
        tokens = self.project(norm(condition) if self.settings.condition_norm else condition)
        if self.settings.waypoint_embedding:
            after = self.num_tokens - self.at_waypoints.stop
            tokens = tokens + F.pad(self.waypoint, (0, 0, self.at_waypoints.start, after)).unsqueeze(1)
        pooled = self.pool(tokens.mean(dim=2)) if self.settings.condition_adaln else None
        return tokens, pooled


class Block(nn.Module):
    """Cross-attention to the condition, attention between slots, gated MLP, each behind a norm.

    Flow time modulates the norms (AdaLN); without it (`timed` false) they have a scale and a shift of their own.
    """

    def __init__(
        self,
        num_runs: int,
        settings: DecoderSettings,
        source_width: int,
        rotary: RotaryAngles | None,
        name: str,
        timed: bool = True,
    ) -> None:
        super().__init__()
        width, init = settings.width, settings.init
        self.name, self.settings = name, settings
        if timed:
            self.modulation = StackedLinear(num_runs, width, 6 * width, "zeros")
        else:
            self.norms = nn.ModuleList(AffineNorm(num_runs, width) for _ in range(3))
        self.cross = Attention(num_runs, width, settings.heads, source_width, init)
        self.slots = Attention(num_runs, width, settings.heads, width, init, rotary)
        self.mlp = GatedMLP(num_runs, width, settings.mlp_multiplier, settings.gate, init)

    def forward(self, x: Tensor, modulation: Tensor | None, memory: tuple[Tensor, Tensor], drop: Drop) -> Tensor:
        """x (R, B, K, H, W); modulation (R, B, 1, H, 6 W), with 1 in place of a shared B or H."""
        num_runs, num_frames, num_draws, horizon, width = x.shape
        before_cross, before_slots, before_mlp = self._norms(modulation)
        name, in_attention = self.name, self.settings.dropout_at == "attention"
        drop_weights = drop if in_attention and drop is not keep_all else None

        queries = before_cross(x).reshape(num_runs, num_frames, num_draws * horizon, width)
        crossed = self.cross(queries, memory, drop_weights, f"{name}.cross.weights").reshape(x.shape)
        x = x + drop(f"{name}.cross", crossed)

        slots = before_slots(x)
        mixed = self.slots.of_itself(slots, drop_weights, f"{name}.slots.weights")
        x = x + drop(f"{name}.slots", mixed)

        if in_attention:
            return x + self.mlp(before_mlp(x), drop, f"{name}.mlp.hidden")
        return x + drop(f"{name}.mlp", self.mlp(before_mlp(x)))

    def _norms(self, modulation: Tensor | None) -> list[Callable[[Tensor], Tensor]]:
        """What stands before each of the three sublayers."""
        if modulation is None:
            return list(self.norms)
        parts = modulation.chunk(6, dim=-1)
        shifts, scales = parts[::2], parts[1::2]
        return [partial(modulate, shift=shift, scale=scale) for shift, scale in zip(shifts, scales, strict=True)]


class Trunk(nn.ModuleList):
    """`settings.layers` blocks, one after the other, for chunks of `horizon` slots."""

    def __init__(self, num_runs: int, settings: DecoderSettings, horizon: int, source_width: int, timed: bool) -> None:
        rotary = None
        if settings.rotary_slots:
            rotary = RotaryAngles(tuple(range(horizon)), settings.width // settings.heads, settings.rotary_base)
        super().__init__(
            Block(num_runs, settings, source_width, rotary, f"blocks.{index}", timed)
            for index in range(settings.layers)
        )

    def keys_values(self, source: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What each block keeps of what it attends to, (R, B, S, source width)."""
        blocks = self._blocks()
        layers = [layer for block in blocks for layer in (block.cross.key, block.cross.value)]
        parts = side_by_side(source, layers).chunk(len(layers), dim=-1)
        return [
            block.cross.split(keys, values) for block, keys, values in zip(blocks, parts[::2], parts[1::2], strict=True)
        ]

    def forward(self, x: Tensor, time: Tensor | None, memory: Memory, drop: Drop) -> Tensor:
        """x (R, B, K, H, W); time (R, B, 1, H, W), with 1 in place of B and H where all frames and slots share it."""
        modulations = self._modulations(time)
        for block, modulation, keys_values in zip(self._blocks(), modulations, memory.keys_values, strict=True):
            x = block(x, modulation, keys_values, drop)
        return x

    def _modulations(self, time: Tensor | None) -> Sequence[Tensor | None]:
        """What flow time makes of each block's norms."""
        blocks = self._blocks()
        if time is None:
            return [None] * len(blocks)
        seen = in_whole_vectors(F.silu, time) if blocks[0].settings.adaln_silu else time
        return side_by_side(seen, [block.modulation for block in blocks]).chunk(len(blocks), dim=-1)

    def _blocks(self) -> list[Block]:
        return list(self)  # type: ignore[arg-type]


class Decoder(nn.Module):
    """R decoders of one shape. `num_channels` counts the model's action channels M, `spec` describes the condition.

    Raises CacheMismatchError when the settings want a token group that `spec` lacks.
    """

    def __init__(
        self, num_runs: int, settings: DecoderSettings, horizon: int, num_channels: int, spec: ConditionSpec
    ) -> None:
        super().__init__()
        self.num_runs, self.horizon, self.num_channels = num_runs, horizon, num_channels
        width, init = settings.width, settings.init
        self.settings = settings
        self.condition = ConditionEntry(num_runs, settings, spec)
        self.action = StackedLinear(num_runs, num_channels, width, init)
        self.slot = stacked_parameter(num_runs, horizon, width, init="trunc-normal")
        self.time = TimeEmbedding(num_runs, settings)
        self.slot_time = stacked_parameter(num_runs, horizon, width, init="zeros") if settings.slot_adaln else None
        self.blocks = Trunk(num_runs, settings, horizon, self.condition.source_width, timed=True)
        self.velocity = StackedLinear(num_runs, width, num_channels, init)

    def remember(self, condition: Tensor) -> Memory:
        """Condition (R, B, S, D) -> every block's keys and values of it, and its pooled summary if there is one."""
        source, pooled = self.condition(condition)
        return Memory(self.blocks.keys_values(source), pooled)

    def forward(self, xt: Tensor, t: Tensor, memory: Memory, drop: Drop = keep_all) -> Tensor:
        """Velocity (R, B, K, H, M) at x_t of that shape and flow time t, (R, B) or (R, 1) when all frames share it."""
        time = self.time(t)
        if memory.pooled is not None:
            time = time + memory.pooled
        time = time[:, :, None, None]
        if self.slot_time is not None:
            time = time + self.slot_time[:, None, None]
        x = self.blocks(self.action(xt) + self.slot[:, None, None], time, memory, drop)
        return self.velocity(norm(x) if self.settings.final_norm else x).float()

    def named_stacked(self) -> list[tuple[str, StackedParameter]]:
        """Every parameter by name."""
        return list(self.named_parameters())  # type: ignore[arg-type]

    def run_buffers(self, run: int) -> dict[str, Tensor]:
        """Nothing: a decoder is its parameters."""
        del run
        return {}


def token_range(spec: ConditionSpec, name: str) -> range:
    """Which of the S tokens form the group `name`. Raises CacheMismatchError if the condition has no such group."""
    first = 0
    for group in spec.groups:
        if group.name == name:
            return range(first, first + group.num_tokens)
        first += group.num_tokens
    hint = " Give the encoder image_grid and build the cache anew." if name == IMAGE_TOKENS else ""
    raise CacheMismatchError(f"the recipe needs the condition's token group {name!r}; the cache holds {spec}.{hint}")


@torch.no_grad()
def initialise(stacked: Stacked, seeds: Sequence[int]) -> None:
    """Fill run r's slice of every parameter from the stream (seeds[r], "init", parameter name).

    A deeper decoder therefore shares its first layers with a shallower one, whatever else differs.
    """
    for name, parameter in stacked.named_stacked():
        for run, seed in enumerate(seeds):
            weight = torch.empty(parameter.shape[1:])
            parameter.initialise(weight, stream(seed, "init", name))
            parameter[run].copy_(weight)


def run_weights(decoder: AnyDecoder, run: int) -> dict[str, Tensor]:
    """One run's parameters without the run axis, as they are saved. They are views: copy before training goes on."""
    return {name: parameter.detach()[run] for name, parameter in decoder.named_stacked()}


@torch.no_grad()
def load_run_weights(decoder: AnyDecoder, run: int, weights: dict[str, Tensor]) -> None:
    """Put one run's saved parameters into its slice. Raises KeyError or RuntimeError when they are of another shape."""
    for name, parameter in decoder.named_stacked():
        parameter[run].copy_(weights[name])
