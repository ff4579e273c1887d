"""The published decoder and regression, rebuilt from their description with torch's own layers, for one run.

Nothing here is shared with flowlab: the tests put flowlab's weights into these modules and compare what comes out.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOAT32_EPS = 2.0**-23  # 1.2e-7


class TimeEmbedding(nn.Module):
    """(B,) flow times -> (B, W): sines and cosines of W/2 - 1 waves, t, a quarter of its logit; an MLP with SiLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_waves = width // 2 - 1
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def features(self, t: Tensor) -> Tensor:
        rates = [1000.0 * 10.0 ** (-4.0 * i / self.num_waves) for i in range(1, self.num_waves + 1)]
        angles = t[:, None] * torch.tensor(rates, dtype=t.dtype)
        held = t.clamp(FLOAT32_EPS, 1 - FLOAT32_EPS)
        logit = held.log() - (1 - held).log()
        return torch.cat([angles.sin(), angles.cos(), t[:, None], 0.25 * logit[:, None]], dim=1)

    def forward(self, t: Tensor) -> Tensor:
        return self.narrow(F.silu(self.widen(self.features(t))))


def rotate(x: Tensor, base: float = 10.0) -> Tensor:
    """x (B, heads, L, d): feature pairs (2 j, 2 j + 1) of slot p, as complex numbers, turned by p * base^(-2 j / d)."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    rates = torch.tensor([base ** (-2 * j / x.shape[-1]) for j in range(x.shape[-1] // 2)])
    angles = torch.arange(x.shape[2])[:, None] * rates.to(x)
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def attend(
    layer: nn.MultiheadAttention, asking: Tensor, asked: Tensor, rotary: bool = False, mask: Tensor | None = None
) -> Tensor:
    """What `layer` computes, written out, so that queries and keys can be turned and attention weights be masked.

    `asking` (B, L, W), `asked` (B, S, W), `mask` (B, heads, L, S): what dropout multiplies the attention weights by.
    """

    def heads(x: Tensor, part: int) -> Tensor:
        rows = slice(part * layer.embed_dim, (part + 1) * layer.embed_dim)
        projected = F.linear(x, layer.in_proj_weight[rows], layer.in_proj_bias[rows])
        return projected.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)

    query, key, value = heads(asking, 0), heads(asked, 1), heads(asked, 2)
    if rotary:
        query, key = rotate(query), rotate(key)
    weights = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]), dim=-1)
    if mask is not None:
        weights = weights * mask
    return layer.out_proj((weights @ value).transpose(1, 2).flatten(-2))


class GatedMLP(nn.Module):
    """W -> W through value * GELU(gate), each of W features. Both stand in one matrix, the value first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value_and_gate = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        value, gate = self.value_and_gate(x).chunk(2, dim=-1)
        hidden = value * F.gelu(gate)
        return self.out(hidden if mask is None else hidden * mask)


class Block(nn.Module):
    """Cross-attention, slot self-attention and gated MLP, each behind a norm and added to what came in.

    With `timed` the norms have no weights and the flow time shifts and scales them; without, they have.
    """

    def __init__(self, width: int, heads: int, timed: bool, rotary: bool) -> None:
        super().__init__()
        self.rotary = rotary
        self.cross = nn.MultiheadAttention(width, heads, batch_first=True)
        self.slots = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = GatedMLP(width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=not timed) for _ in range(3))
        self.adaln = nn.Linear(width, 6 * width) if timed else None

    def forward(self, x: Tensor, tokens: Tensor, time: Tensor | None, masks: Mapping[str, Tensor]) -> Tensor:
        shift_and_scale = [None] * 6
        if self.adaln is not None and time is not None:
            shift_and_scale = list(self.adaln(time)[:, None].chunk(6, dim=-1))

        def normed(x: Tensor, part: int) -> Tensor:
            shift, scale = shift_and_scale[2 * part : 2 * part + 2]
            plain = self.norms[part](x)
            return plain if shift is None else plain * (1 + scale) + shift

        added = attend(self.cross, normed(x, 0), tokens, mask=masks.get("cross weights"))
        x = x + added * masks.get("cross residual", 1.0)
        asking = normed(x, 1)
        added = attend(self.slots, asking, asking, self.rotary, mask=masks.get("slot weights"))
        x = x + added * masks.get("slot residual", 1.0)
        return x + self.mlp(normed(x, 2), masks.get("hidden"))


class PublishedDecoder(nn.Module):
    """Noisy chunks (B, H, M), flow times (B,) and condition tokens (B, S, D) -> velocities (B, H, M)."""

    def __init__(
        self, width: int, layers: int, heads: int, tokens_width: int, horizon: int, channels: int, rotary: bool = True
    ) -> None:
        super().__init__()
        self.condition = nn.Linear(tokens_width, width)
        self.action = nn.Linear(channels, width)
        self.position = nn.Parameter(torch.empty(horizon, width))
        self.time = TimeEmbedding(width)
        self.blocks = nn.ModuleList(Block(width, heads, timed=True, rotary=rotary) for _ in range(layers))
        self.output = nn.Linear(width, channels)
        nn.init.trunc_normal_(self.position, std=0.02)
        for block in self.blocks:
            nn.init.zeros_(block.adaln.weight)
            nn.init.zeros_(block.adaln.bias)

    def forward(
        self, x: Tensor, t: Tensor, tokens: Tensor, masks: Mapping[int, Mapping[str, Tensor]] | None = None
    ) -> Tensor:
        """`masks`: by block and place, what dropout multiplies by."""
        seen, time = self.condition(tokens), self.time(t)
        h = self.action(x) + self.position
        for number, block in enumerate(self.blocks):
            h = block(h, seen, time, (masks or {}).get(number, {}))
        return self.output(h)


class PublishedRegression(nn.Module):
    """Condition tokens (B, S, D) -> chunks (B, H, M), out of learnt slot queries: no action, no noise, no time."""

    def __init__(
        self, width: int, layers: int, heads: int, tokens_width: int, horizon: int, channels: int, rotary: bool = True
    ) -> None:
        super().__init__()
        self.condition = nn.Linear(tokens_width, width)
        self.queries = nn.Parameter(torch.empty(horizon, width))
        self.blocks = nn.ModuleList(Block(width, heads, timed=False, rotary=rotary) for _ in range(layers))
        self.output = nn.Linear(width, channels)
        nn.init.trunc_normal_(self.queries, std=0.02)

    def forward(self, tokens: Tensor, masks: Mapping[int, Mapping[str, Tensor]] | None = None) -> Tensor:
        seen = self.condition(tokens)
        h = self.queries.expand(len(tokens), -1, -1)
        for number, block in enumerate(self.blocks):
            h = block(h, seen, None, (masks or {}).get(number, {}))
        return self.output(h)


@torch.no_grad()
def transplant(weights: Mapping[str, Tensor], into: PublishedDecoder | PublishedRegression) -> None:
    """Put one run's weights, by flowlab's names, into a published module. flowlab keeps matrices as (in, out).

    What the description leaves open is taken from flowlab: which half of the gated matrix is the gate, in which order
    AdaLN's six outputs stand (shift and scale of cross-attention, of slots, of the MLP) and the time features.
    """
    weights = dict(weights)

    def linear(name: str, layer: nn.Linear) -> None:
        layer.weight.copy_(weights.pop(f"{name}.weight").T)
        layer.bias.copy_(weights.pop(f"{name}.bias"))

    def attention(name: str, layer: nn.MultiheadAttention) -> None:
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        layer.in_proj_weight.copy_(torch.cat([weights.pop(f"{part}.weight").T for part in parts]))
        layer.in_proj_bias.copy_(torch.cat([weights.pop(f"{part}.bias") for part in parts]))
        linear(f"{name}.leave", layer.out_proj)

    linear("condition.project", into.condition)
    linear("velocity", into.output)
    if isinstance(into, PublishedDecoder):
        linear("action", into.action)
        linear("time.enter", into.time.widen)
        linear("time.leave", into.time.narrow)
    (into.position if isinstance(into, PublishedDecoder) else into.queries).copy_(weights.pop("slot"))
    for number, block in enumerate(into.blocks):
        name = f"blocks.{number}"
        attention(f"{name}.cross", block.cross)
        attention(f"{name}.slots", block.slots)
        linear(f"{name}.mlp.enter", block.mlp.value_and_gate)
        linear(f"{name}.mlp.leave", block.mlp.out)
        if block.adaln is not None:
            linear(f"{name}.modulation", block.adaln)
            continue
        for part, layer in enumerate(block.norms):
            layer.weight.copy_(weights.pop(f"{name}.norms.{part}.scale"))
            layer.bias.copy_(weights.pop(f"{name}.norms.{part}.shift"))
    assert not weights, f"flowlab has weights that the published module has not: {list(weights)}"
