"""The flow's end points from our own transformer decoder, faster than by asking the decoder itself.

Nothing is trained here, so what stays the same over a frame's draws or over the solver's steps is computed once:

- cross-attention's query and output matrices are multiplied into the keys and values of a frame. The scores of its
  draws are then one product with a matrix of heads * S columns instead of W, and the result another one back;
- the flow times that the solver will ask for are known beforehand, and with them all modulations of the norms;
- queries, keys and values of attention between slots are one product, their rotary positions one complex factor;
- where no norm follows, the last MLP's output matrix and the velocity's are one matrix.

Runs go one by one: a run's bits cannot depend on its cohort. Nor, at one number of frames, do a frame's bits depend on
its place among them: see COLUMNS. Products are of the weights' numbers; the tokens between them are float32.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlab.policy.decoder import Block, Decoder, Memory
from flowlab.policy.layers import ALIGNMENT, Attention, StackedLinear, aligned, in_whole_vectors, norm
from flowlab.policy.solver import solve

FEWEST_DRAWS = 4  # below it the matrices of a frame cost more than its draws save
FEWEST_DRAWS_ALONE = 16  # where frames go one by one; below it the calls themselves cost more
MOST_STEPS = 1024  # so that the table of modulations stays small beside the weights
COLUMNS = ALIGNMENT // 4  # a product's columns are filled up to a multiple: every frame's matrix then begins where
# memory is aligned, which has a say in how a small one is rounded. One with very few columns is slow besides


def is_faster(decoder: Decoder, memory: Memory, noise: Tensor, num_steps: int) -> bool:
    """Whether `sample` may and should be used in place of the decoder itself for noise (R, B, K, H, M).

    Only where no gradient is asked for: it writes in place. Not for many heads over many tokens, where the matrices of
    a frame have more columns than they save. Frames that cannot go together are quick one by one only on a CPU and
    with enough draws.
    """
    num_draws = noise.shape[2]
    num_tokens = memory.keys_values[0][0].shape[-2]
    fewer_columns = num_tokens * (decoder.settings.heads - 1) < decoder.settings.width
    one_by_one = noise.device.type == "cpu" and num_draws >= FEWEST_DRAWS_ALONE
    quick = one_by_one or (num_draws >= FEWEST_DRAWS and _may_go_together(decoder, memory))
    return quick and fewer_columns and num_steps <= MOST_STEPS and not torch.is_grad_enabled()


def _may_go_together(decoder: Decoder, memory: Memory) -> bool:
    """Whether several frames can be one pass: they share their modulations, as they do without a pooled condition, and
    the width leaves the matrices of each where memory is aligned."""
    return memory.pooled is None and decoder.settings.width % COLUMNS == 0


def sample(decoder: Decoder, memory: Memory, noise: Tensor, solver: str, num_steps: int) -> Tensor:
    """Noise (R, B, K, H, M) carried along the velocity from t = 0 to t = 1; within 1e-5 of what the decoder gives.

    Quickest for as many frames as fit a processor's cache.
    """
    num_runs, num_frames = noise.shape[:2]
    pass_frames = num_frames if _may_go_together(decoder, memory) else 1
    times = flow_times(solver, num_steps)
    embedded = decoder.time(torch.tensor(times, device=noise.device).expand(num_runs, -1))
    ends = torch.empty_like(noise, memory_format=torch.contiguous_format)
    for run in range(num_runs):
        for first in range(0, num_frames, pass_frames):
            frames = slice(first, first + pass_frames)
            x0 = aligned(noise[run, frames])
            velocity = _Velocity(decoder, run, times, embedded, memory, frames, x0)
            ends[run, frames] = solve(velocity, x0, solver, num_steps)
    return ends


def flow_times(solver: str, num_steps: int) -> list[float]:
    """Each flow time at which the solver will ask for the velocity, once."""
    asked: dict[float, None] = {}

    def velocity(x: Tensor, t: float) -> Tensor:
        asked[t] = None
        return x

    solve(velocity, torch.zeros(()), solver, num_steps)
    return list(asked)


class _Linear:
    """One run's slice of a StackedLinear, as plain matrices."""

    def __init__(self, layer: StackedLinear, run: int) -> None:
        self.weight = aligned(layer.weight.detach()[run])
        self.bias = layer.bias.detach()[run].to(self.weight.dtype)


class _Block:
    """One run's weights of one block, in the shapes in which they are used for F frames."""

    def __init__(self, block: Block, run: int, time: Tensor, keys: Tensor, values: Tensor) -> None:
        self.modulation = _modulation(_Linear(block.modulation, run), time)
        num_heads, num_tokens = keys.shape[1:3]
        more = (0, 0, 0, -num_tokens % (COLUMNS // math.gcd(COLUMNS, num_heads)))
        self.keys, self.key_bias = _scoring(_Linear(block.cross.query, run), aligned(F.pad(keys, more)), num_tokens)
        self.values = _adding(_Linear(block.cross.leave, run), aligned(F.pad(values, more)))
        inner = [_Linear(layer, run) for layer in (block.slots.query, block.slots.key, block.slots.value)]
        self.mixing = torch.cat([layer.weight for layer in inner], dim=1)
        self.mixing_bias = torch.cat([layer.bias for layer in inner])
        self.turn = _turn(block.slots)
        self.slots_leave = _Linear(block.slots.leave, run)
        enter = _Linear(block.mlp.enter, run)
        self.value, self.gate = enter.weight.chunk(2, dim=1)
        self.value_bias, self.gate_bias = enter.bias.chunk(2)
        self.gated = F.gelu if block.settings.gate == "gelu" else F.silu
        self.mlp_leave = _Linear(block.mlp.leave, run)


def _time(decoder: Decoder, run: int, embedded: Tensor, pooled: Tensor | None) -> Tensor:
    """What the modulations are made of, (T, W) or (T, H, W) where slots have times of their own, from embedded flow
    times (T, W) and the pooled condition (1, W) of the one frame, if there is one."""
    time = aligned(embedded) if pooled is None else embedded + pooled
    if decoder.slot_time is not None:
        time = time[:, None] + decoder.slot_time.detach()[run]
    return in_whole_vectors(F.silu, time) if decoder.settings.adaln_silu else time


def _modulation(layer: _Linear, time: Tensor) -> Tensor:
    """Embedded flow times (T, W) or, where slots have times of their own, (T, H, W) -> (T, 3, 2, [H,] W): before each
    of the three sublayers the shift and 1 + the scale of the norm."""
    each = (time.to(layer.weight.dtype) @ layer.weight + layer.bias).float()
    parts = each.unflatten(-1, (3, 2, -1)).movedim((-3, -2), (1, 2)).contiguous()
    parts[:, :, 1] += 1
    return parts


def _scoring(query: _Linear, keys: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Keys (F, heads, S, W / heads) -> what takes normed tokens to scores: (F, W, heads * S) and (F, 1, heads * S).

    Keys after the first `num_tokens` are there to fill up; they get no attention.
    """
    num_frames, heads, _, head_width = keys.shape
    scaled = keys / math.sqrt(head_width)
    of_heads = query.weight.reshape(-1, heads, head_width).transpose(0, 1)
    weight = (of_heads @ scaled.transpose(-1, -2)).transpose(1, 2)
    bias = scaled @ query.bias.reshape(heads, head_width, 1)
    bias[:, :, num_tokens:] = -math.inf
    return weight.reshape(num_frames, len(query.weight), -1), bias.reshape(num_frames, 1, -1)


def _adding(leave: _Linear, values: Tensor) -> Tensor:
    """Values (F, heads, S, W / heads) -> (F, heads * S, W), what takes attention's weights to its result."""
    num_frames, heads, _, head_width = values.shape
    result = values @ leave.weight.reshape(heads, head_width, -1)
    result[:, 0] += leave.bias  # the weights of one head sum to 1
    return result.reshape(num_frames, -1, leave.weight.shape[1])


def _turn(attention: Attention) -> Tensor | None:
    """(H, W), complex: what turns each pair of features of a slot's query and key, all heads side by side."""
    if attention.rotary is None:
        return None
    return torch.complex(attention.rotary.cos, attention.rotary.sin).repeat(1, 2 * attention.heads)


class _Velocity:
    """One run's velocity of the draws of F frames. What a layer makes is written where it wrote it before."""

    def __init__(
        self,
        decoder: Decoder,
        run: int,
        times: Sequence[float],
        embedded: Tensor,
        memory: Memory,
        frames: slice,
        like: Tensor,
    ) -> None:
        settings = decoder.settings
        self.heads, self.final_norm = settings.heads, settings.final_norm
        self.row = {t: row for row, t in enumerate(times)}
        action, velocity = _Linear(decoder.action, run), _Linear(decoder.velocity, run)
        self.enter, self.slot = action.weight, decoder.slot.detach()[run] + action.bias
        time = _time(decoder, run, embedded[run], None if memory.pooled is None else memory.pooled[run, frames])
        blocks: list[Block] = list(decoder.blocks)  # type: ignore[arg-type]
        pairs = [[x.unflatten(0, (decoder.num_runs, -1))[run, frames] for x in kept] for kept in memory.keys_values]
        self.blocks = [_Block(block, run, time, *pair) for block, pair in zip(blocks, pairs, strict=True)]
        leave = self.blocks[-1].mlp_leave
        columns = (0, -decoder.num_channels % COLUMNS)
        self.velocity, self.bias = F.pad(velocity.weight, columns), F.pad(velocity.bias, columns)
        self.last, self.last_bias = leave.weight @ self.velocity, self.bias + leave.bias @ self.velocity
        num_tokens, width, hidden = like[..., 0].numel(), settings.width, leave.weight.shape[0]
        self.tokens, like = like.new_empty(num_tokens, width), like.to(leave.weight.dtype)
        self.mixed = like.new_empty(num_tokens, 3 * width)
        self.value, self.gate = like.new_empty(num_tokens, hidden), like.new_empty(num_tokens, hidden)

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """x (F, K, H, M) -> the velocity there, of that shape."""
        num_frames, _, horizon, num_channels = x.shape
        y, row = self.tokens, self.row[t]
        _put_product(x.reshape(-1, num_channels), self.enter, y)
        y.view(-1, *self.slot.shape).add_(self.slot)
        for index, block in enumerate(self.blocks):
            before_cross, before_slots, before_mlp = block.modulation[row]
            self._cross(self._modulated(before_cross), block, num_frames)
            self._mix(self._modulated(before_slots), block, horizon)
            self._gate(self._modulated(before_mlp), block)
            if index < len(self.blocks) - 1 or self.final_norm:
                _add_product(y, self.value, block.mlp_leave.weight).add_(block.mlp_leave.bias)
        if self.final_norm:
            v = torch.addmm(self.bias, norm(y).to(self.bias.dtype), self.velocity)
        else:
            v = torch.addmm(self.last_bias, y.to(self.bias.dtype), self.velocity).addmm_(self.value, self.last)
        return v[:, :num_channels].reshape(x.shape).float()

    def _modulated(self, norms: Tensor) -> Tensor:
        """The tokens normed, scaled and shifted; `norms` (2, W), shift and 1 + scale, or (2, H, W) where each slot has
        its own."""
        shift, scale = norms
        if shift.ndim == 1:
            normed = F.layer_norm(self.tokens, shift.shape, scale, shift)
        else:
            normed = torch.addcmul(shift, norm(self.tokens).view(-1, *shift.shape), scale).view(self.tokens.shape)
        return normed.to(self.mixed.dtype)

    def _cross(self, z: Tensor, block: _Block, num_frames: int) -> None:
        """Add the cross-attention of normed tokens (F * K * H, W)."""
        scores = torch.baddbmm(block.key_bias, z.view(num_frames, -1, z.shape[1]), block.keys)
        weights = scores.unflatten(-1, (self.heads, -1)).softmax(-1).flatten(-2)
        _add_product(self.tokens.view(num_frames, -1, z.shape[1]), weights, block.values)

    def _mix(self, z: Tensor, block: _Block, horizon: int) -> None:
        """Add the attention between slots of normed tokens."""
        width = z.shape[1]
        mixed = torch.addmm(block.mixing_bias, z, block.mixing, out=self.mixed)
        if block.turn is not None:
            exact = mixed[:, : 2 * width].float()  # where they lie, if they are
            torch.view_as_complex(exact.view(-1, horizon, width, 2)).mul_(block.turn)
            if exact.dtype != mixed.dtype:
                mixed[:, : 2 * width].copy_(exact)
        query, key, value = mixed.view(-1, horizon, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        result = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(z.shape)
        _add_product(self.tokens, result, block.slots_leave.weight).add_(block.slots_leave.bias)

    def _gate(self, z: Tensor, block: _Block) -> None:
        """Put the MLP's hidden layer of normed tokens into self.value."""
        gate = torch.addmm(block.gate_bias, z, block.gate, out=self.gate)
        gated = in_whole_vectors(block.gated, gate.unsqueeze(0)).squeeze(0)
        torch.addmm(block.value_bias, z, block.value, out=self.value).mul_(gated)


def _put_product(x: Tensor, weight: Tensor, place: Tensor) -> None:
    """place = x @ weight, of the weight's numbers."""
    if place.dtype == weight.dtype:
        torch.mm(x, weight, out=place)
    else:
        place.copy_(x.to(weight.dtype) @ weight)


def _add_product(y: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """y += x @ weight, of the weight's numbers; (F, L, W) where each frame has a weight of its own."""
    if y.dtype != weight.dtype:
        return y.add_(x @ weight)
    return y.addmm_(x, weight) if y.ndim == 2 else y.baddbmm_(x, weight)
