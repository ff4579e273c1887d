"""The flow's end points as a plain graph: every solver step written out, for one run, and for any number of frames and
draws alone. `flowlab export` traces it: traced from the decoder itself, most of a graph is arithmetic on shapes.

Frames and draws are one axis P, so that every other size is a number of the graph. All that depends on weights and flow
times alone is computed beforehand: a step is a few products, and a graph of 32 steps is traced in seconds.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.policy.decoder import Block, Decoder, Memory
from flowlab.policy.layers import Attention, StackedLinear, norm
from flowlab.policy.sampler import flow_times
from flowlab.policy.solver import solve

Norm = tuple[Tensor, Tensor]
"""What a normed tensor is multiplied by, and what is added: (W,) of a flow time alone, else (P, 1 or h, W)."""


class UnrolledFlow(nn.Module):
    """What `FlowMatching.sample` gives for a decoder of one run, within 1e-5, as a graph of fixed shapes."""

    @torch.no_grad()
    def __init__(self, decoder: Decoder, solver: str, num_steps: int) -> None:
        super().__init__()
        assert decoder.num_runs == 1, "a graph is of one run"
        self.solver, self.num_steps, self.settings = solver, num_steps, decoder.settings
        self.shape = (decoder.horizon, decoder.num_channels)
        self.times = {t: row for row, t in enumerate(flow_times(solver, num_steps))}
        self.trunk = nn.ModuleList(_Block(block) for block in decoder.blocks)  # type: ignore[arg-type]
        self.enter, self.velocity = _Linear(decoder.action), _Linear(decoder.velocity)
        self.enter.bias = self.enter.bias + decoder.slot[0]
        embedded = decoder.time(torch.tensor([list(self.times)], device=decoder.slot.device))[0].unsqueeze(1)
        self.embedded = embedded if decoder.slot_time is None else embedded + decoder.slot_time[0]  # (T, 1 or h, W)
        self.norms = [self._norms(time) for time in self.embedded]

    def forward(self, memory: Memory, noise: Tensor) -> Tensor:
        """Draws (1, B, K, h, M) from noise of that shape."""
        num_frames, num_draws = noise.shape[1:3]
        kept = [
            (_each_draw(keys.transpose(-1, -2), num_draws), _each_draw(values, num_draws))
            for keys, values in memory.keys_values
        ]
        pooled = None if memory.pooled is None else _each_draw(memory.pooled[0], num_draws).unsqueeze(1)

        def velocity(x: Tensor, t: float) -> Tensor:
            row = self.times[t]
            y = self.enter(x)
            norms = self.norms[row] if pooled is None else self._norms(self.embedded[row] + pooled)
            for block, keys_values, own in zip(self._blocks(), kept, norms, strict=True):
                y = block(y, *keys_values, own)
            return self.velocity(norm(y) if self.settings.final_norm else y)

        ends = solve(velocity, noise.reshape(-1, *self.shape), self.solver, self.num_steps)
        return ends.reshape(1, num_frames, num_draws, *self.shape)

    def _norms(self, time: Tensor) -> list[list[Norm]]:
        """Of each block the three norms, for an embedded time (1 or P, 1 or h, W)."""
        entered = F.silu(time) if self.settings.adaln_silu else time
        return [block.norms(entered) for block in self._blocks()]

    def _blocks(self) -> list["_Block"]:
        return list(self.trunk)  # type: ignore[arg-type]


class _Linear(nn.Module):
    """The weights of one run as plain matrices. Buffers: a tensor that is none is written anew wherever it is used."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: StackedLinear, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach()[0] * scale)
        self.register_buffer("bias", layer.bias.detach()[0] * scale)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return x @ self.weight + self.bias


class _Block(nn.Module):
    """One block of the decoder for x (P, h, W)."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        cross, slots, heads = block.cross, block.slots, block.settings.heads
        self.heads, self.width = heads, block.settings.width
        scale = 1 / math.sqrt(self.width // heads)
        self.modulation = _Linear(block.modulation)
        self.asks, self.leave = _Linear(cross.query, scale), _Linear(cross.leave)
        self.query, self.key, self.value = _Linear(slots.query, scale), _Linear(slots.key), _Linear(slots.value)
        self.mixed, self.turn = _Linear(slots.leave), _Turn(slots)
        self.hidden, self.mlp_leave = _Linear(block.mlp.enter), _Linear(block.mlp.leave)
        self.gate = F.gelu if block.settings.gate == "gelu" else F.silu

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, norms: list[Norm]) -> Tensor:
        """`keys` (P, heads, W / heads, S), `values` (P, heads, S, W / heads) of the condition."""
        x = x + self.leave(self._attend(self._split(self.asks, _normed(x, norms[0])), keys, values))
        inner = _normed(x, norms[1])
        query, key = (self.turn(self._split(layer, inner)) for layer in (self.query, self.key))
        x = x + self.mixed(self._attend(query, key.transpose(-1, -2), self._split(self.value, inner)))
        hidden, gate = self.hidden(_normed(x, norms[2])).chunk(2, dim=-1)
        return x + self.mlp_leave(hidden * self.gate(gate))

    def norms(self, time: Tensor) -> list[Norm]:
        """The norms before cross-attention, attention between slots and the MLP, for an embedded time."""
        parts = self.modulation(time).chunk(6, dim=-1)
        found = [(1 + scale, shift) for shift, scale in zip(parts[::2], parts[1::2], strict=True)]
        is_plain = int(time.shape[0]) == int(time.shape[1]) == 1
        return [(scale.flatten(), shift.flatten()) for scale, shift in found] if is_plain else found

    def _split(self, layer: _Linear, x: Tensor) -> Tensor:
        """x (P, h, W) -> (P, heads, h, W / heads)."""
        return layer(x).reshape(-1, int(x.shape[1]), self.heads, self.width // self.heads).transpose(1, 2)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(P, h, W): the values by how well keys (P, heads, W / heads, S) fit scaled queries."""
        mixed = ((queries @ keys).softmax(dim=-1) @ values).transpose(1, 2)
        return mixed.reshape(-1, int(mixed.shape[1]), self.width)


class _Turn(nn.Module):
    """Turns each pair of features of a slot's queries and keys by its place, by one product with a fixed matrix."""

    cos: Tensor | None
    sin: Tensor
    swap: Tensor

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        rotary = attention.rotary
        self.register_buffer("cos", None if rotary is None else rotary.cos.repeat_interleave(2, dim=-1))
        if rotary is None or self.cos is None:
            return
        self.register_buffer("sin", rotary.sin.repeat_interleave(2, dim=-1))
        even, swap = torch.arange(0, self.cos.shape[-1], 2), torch.zeros(self.cos.shape[-1], self.cos.shape[-1])
        swap[even + 1, even], swap[even, even + 1] = -1.0, 1.0
        self.register_buffer("swap", swap.to(self.cos.device))

    def forward(self, x: Tensor) -> Tensor:
        """x (P, heads, h, W / heads) -> the same shape."""
        return x if self.cos is None else x * self.cos + (x @ self.swap) * self.sin


def _normed(x: Tensor, of: Norm) -> Tensor:
    scale, shift = of
    if scale.ndim == 1:
        return F.layer_norm(x, (int(x.shape[-1]),), scale, shift)
    return norm(x) * scale + shift


def _each_draw(x: Tensor, num_draws: int) -> Tensor:
    """(B, ...) -> (P, ...): what there is of a frame, once for each of its draws."""
    sizes = [int(size) for size in x.shape[1:]]
    return x.unsqueeze(1).expand(-1, num_draws, *sizes).reshape(-1, *sizes)
