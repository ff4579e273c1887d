"""Pre-norm transformer blocks, with or without rotary positions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MLP_MULTIPLIER = 3
ROTARY_BASE = 100.0


class Linear(nn.Linear):
    """A linear map that `initialise` fills: torch's own constructor would draw from the global generator."""

    def reset_parameters(self) -> None:
        """Nothing yet."""


class RotaryAngles(nn.Module):
    """Rotary position embedding (Su et al., 2021) over time steps; tokens of one moment share a step."""

    cos: Tensor
    sin: Tensor

    def __init__(self, steps: tuple[int, ...], head_width: int, base: float = ROTARY_BASE) -> None:
        super().__init__()
        rates = base ** (-torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
        angles = torch.tensor(steps, dtype=torch.float32)[:, None] * rates
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, heads, L, head width) with each pair of features turned by its token's step."""
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = torch.stack((even * self.cos - odd * self.sin, even * self.sin + odd * self.cos), dim=-1)
        return turned.flatten(-2)


class Block(nn.Module):
    """Self-attention, then an MLP, each behind a LayerNorm and added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = Linear(width, 3 * width)
        self.attention_out = Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = Linear(width, MLP_MULTIPLIER * width)
        self.mlp_out = Linear(MLP_MULTIPLIER * width, width)

    def forward(self, x: Tensor, rotary: RotaryAngles | None = None) -> Tensor:
        """x (B, L, width) -> the same shape."""
        batch, length, width = x.shape
        split = self.query_key_value(self.attention_norm(x)).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        if rotary is not None:
            query, key = rotary(query), rotary(key)
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x))))


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Fill every weight of `module` from `generator`, in the order of the parameters: nothing comes from global state.

    Matrices and tables are truncated normals of deviation 0.02 (matrices: 1/sqrt(fan in)), biases zero, norms one.
    """
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.trunc_normal_(child.weight, std=child.in_features**-0.5, generator=generator)
            nn.init.zeros_(child.bias)
        elif isinstance(child, nn.LayerNorm):
            nn.init.ones_(child.weight)
            nn.init.zeros_(child.bias)
        for parameter in child.parameters(recurse=False):
            if not isinstance(child, nn.Linear | nn.LayerNorm):
                nn.init.trunc_normal_(parameter, std=0.02, generator=generator)
