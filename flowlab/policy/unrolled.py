"""The flow's end points as a plain graph: every solver step written out, for one run, and for any number of frames and
draws alone. `flowlab export` traces it: traced from the decoder itself, most of a graph is arithmetic on shapes.

Frames and draws are one axis P, so that every other size is a number of the graph. The flow times that the solver asks
for are known beforehand, and with them the modulations of the norms, unless a pooled condition has a say in them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.policy.decoder import Block, Decoder, Memory
from flowlab.policy.layers import Attention, StackedLinear, norm
from flowlab.policy.sampler import flow_times
from flowlab.policy.solver import solve

KeysValues = tuple[Tensor, Tensor]


class UnrolledFlow(nn.Module):
    """What `FlowMatching.sample` gives for a decoder of one run, within 1e-5, as a graph of fixed shapes."""

    @torch.no_grad()
    def __init__(self, decoder: Decoder, solver: str, num_steps: int) -> None:
        super().__init__()
        assert decoder.num_runs == 1, "a graph is of one run"
        self.decoder, self.solver, self.num_steps = decoder, solver, num_steps
        self.times = {t: row for row, t in enumerate(flow_times(solver, num_steps))}
        self.blocks: list[Block] = list(decoder.blocks)  # type: ignore[arg-type]
        self.turns = [_Turn(block.slots) for block in self.blocks]
        embedded = decoder.time(torch.tensor([list(self.times)], device=decoder.slot.device))[0].unsqueeze(1)
        self.embedded = embedded if decoder.slot_time is None else embedded + decoder.slot_time[0]  # (T, 1 or H, W)
        self.modulations = [self._modulations(time) for time in self.embedded]

    def forward(self, memory: Memory, noise: Tensor) -> Tensor:
        """Draws (1, B, K, h, M) from noise of that shape."""
        num_frames, num_draws = noise.shape[1:3]
        shape = (self.decoder.horizon, self.decoder.num_channels)
        kept = [(_each_draw(keys, num_draws), _each_draw(values, num_draws)) for keys, values in memory.keys_values]
        pooled = None if memory.pooled is None else _each_draw(memory.pooled[0], num_draws).unsqueeze(1)

        def velocity(x: Tensor, t: float) -> Tensor:
            row = self.times[t]
            known = self.modulations[row] if pooled is None else self._modulations(self.embedded[row] + pooled)
            return self._velocity(x, kept, known)

        ends = solve(velocity, noise.reshape(-1, *shape), self.solver, self.num_steps)
        return ends.reshape(1, num_frames, num_draws, *shape)

    def _velocity(self, xt: Tensor, kept: list[KeysValues], modulations: list[list[Tensor]]) -> Tensor:
        """(P, h, M) -> the velocity there, of that shape."""
        decoder = self.decoder
        x = _linear(decoder.action, xt) + decoder.slot[0]
        for block, turn, keys_values, known in zip(self.blocks, self.turns, kept, modulations, strict=True):
            x = _block(block, turn, x, keys_values, known)
        return _linear(decoder.velocity, norm(x) if decoder.settings.final_norm else x)

    def _modulations(self, time: Tensor) -> list[list[Tensor]]:
        """Of each block the shift and the scale of its three norms in turn, for an embedded time (..., W)."""
        entered = F.silu(time) if self.decoder.settings.adaln_silu else time
        return [list(_linear(block.modulation, entered).chunk(6, dim=-1)) for block in self.blocks]


class _Turn:
    """Turns each pair of features of a slot's queries and keys by its place, by one product with a fixed matrix."""

    def __init__(self, attention: Attention) -> None:
        self.cos: Tensor | None = None
        if attention.rotary is None:
            return
        self.cos, self.sin = (x.repeat_interleave(2, dim=-1) for x in (attention.rotary.cos, attention.rotary.sin))
        even = torch.arange(0, self.cos.shape[-1], 2)
        self.swap = torch.zeros(self.cos.shape[-1], self.cos.shape[-1])
        self.swap[even + 1, even], self.swap[even, even + 1] = -1.0, 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """x (P, heads, h, W / heads) -> the same shape."""
        return x if self.cos is None else x * self.cos + (x @ self.swap) * self.sin


def _block(block: Block, turn: _Turn, x: Tensor, keys_values: KeysValues, known: list[Tensor]) -> Tensor:
    """One block of the decoder for x (P, h, W)."""
    cross, slots = block.cross, block.slots
    x = x + _attend(cross, _heads(cross.query, cross, _modulated(x, *known[:2])), *keys_values)
    inner = _modulated(x, *known[2:4])
    query, key, value = (_heads(layer, slots, inner) for layer in (slots.query, slots.key, slots.value))
    x = x + _attend(slots, turn(query), turn(key), value)
    hidden, gate = _linear(block.mlp.enter, _modulated(x, *known[4:])).chunk(2, dim=-1)
    gated = F.gelu(gate) if block.settings.gate == "gelu" else F.silu(gate)
    return x + _linear(block.mlp.leave, hidden * gated)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """norm(x) (1 + scale) + shift; where both are of a flow time alone, as a norm with weights of its own."""
    width = int(x.shape[-1])
    if int(shift.numel()) == width:
        return F.layer_norm(x, (width,), (1 + scale).flatten(), shift.flatten())
    return norm(x) * (1 + scale) + shift


def _linear(layer: StackedLinear, x: Tensor) -> Tensor:
    """x (..., in) -> (..., out) by the weights of the one run."""
    return x @ layer.weight[0] + layer.bias[0]


def _heads(layer: StackedLinear, attention: Attention, x: Tensor) -> Tensor:
    """x (P, h, W) -> (P, heads, h, W / heads)."""
    split = (-1, int(x.shape[1]), attention.heads, layer.weight.shape[2] // attention.heads)
    return _linear(layer, x).reshape(split).transpose(1, 2)


def _attend(attention: Attention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """(P, heads, h, W / heads) three times, the last two with S in place of h -> (P, h, W)."""
    width = attention.leave.weight.shape[1]
    scores = queries @ keys.transpose(-1, -2) / math.sqrt(width // attention.heads)
    mixed = (scores.softmax(dim=-1) @ values).transpose(1, 2)
    return _linear(attention.leave, mixed.reshape(-1, int(mixed.shape[1]), width))


def _each_draw(x: Tensor, num_draws: int) -> Tensor:
    """(B, ...) -> (P, ...): what there is of a frame, once for each of its draws."""
    sizes = [int(size) for size in x.shape[1:]]
    return x.unsqueeze(1).expand(-1, num_draws, *sizes).reshape(-1, *sizes)
