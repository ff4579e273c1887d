"""What pretraining asks of the tokens. Heads are thrown away with it; only the encoder under them is kept."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.encoder.transformer import Linear

NUM_BINS = 41


@dataclass(frozen=True)
class ActionBins:
    """NUM_BINS values per channel between the least and the greatest action of the train drives."""

    low: Tensor  # (A,)
    step: Tensor  # (A,)

    @classmethod
    def fit(cls, action: Tensor) -> "ActionBins":
        """Bins over raw actions (..., A), which must be finite."""
        flat = action.flatten(0, -2)
        low, high = flat.amin(dim=0), flat.amax(dim=0)
        return cls(low, ((high - low) / (NUM_BINS - 1)).clamp_min(1e-6))

    def two_hot(self, action: Tensor) -> Tensor:
        """(..., A) -> weights (..., A, NUM_BINS): each value shared by its two nearest bins, whose mean it stays."""
        place = ((action - self.low) / self.step).clamp(0, NUM_BINS - 1)
        centres = torch.arange(NUM_BINS, device=action.device)
        return (1 - (place.unsqueeze(-1) - centres).abs()).clamp_min(0)

    def cross_entropy(self, logits: Tensor, action: Tensor) -> Tensor:
        """Mean nats per value, of logits (..., A, NUM_BINS) against raw actions (..., A)."""
        return -(self.two_hot(action) * logits.log_softmax(dim=-1)).sum(dim=-1).mean()

    def marginal_cross_entropy(self, action: Tensor) -> float:
        """What `cross_entropy` is for the best prediction that looks at nothing: actions (N, H, A)."""
        share = self.two_hot(action).mean(dim=0)
        return float(-(share * share.clamp_min(1e-12).log()).sum(dim=-1).mean())


class FrameHead(nn.Module):
    """One frame's features (N, F) -> logits (N, H, A, NUM_BINS) over the chunk that follows it."""

    def __init__(self, num_features: int, horizon: int, num_channels: int) -> None:
        super().__init__()
        self.shape = (horizon, num_channels, NUM_BINS)
        self.hidden = Linear(num_features, num_features)
        self.out = Linear(num_features, horizon * num_channels * NUM_BINS)

    def forward(self, features: Tensor) -> Tensor:
        return self.out(F.gelu(self.hidden(features))).unflatten(-1, self.shape)


class TokenHeads(nn.Module):
    """Reads the tokens as a decoder would: slot queries attend to them. Beside it, linear maps for what they hold."""

    def __init__(self, width: int, heads: int, horizon: int, history: int, num_channels: int) -> None:
        super().__init__()
        self.heads, self.num_channels = heads, num_channels
        self.slot = nn.Parameter(torch.zeros(horizon, width))
        self.key_value = Linear(width, 2 * width)
        self.hidden = Linear(width, width)
        self.out = Linear(width, num_channels * NUM_BINS)
        self.past = Linear(width, history * (num_channels + 1))
        self.waypoint = Linear(width, 2)

    def chunk_logits(self, tokens: Tensor) -> Tensor:
        """(B, S, D) -> (B, H, A, NUM_BINS)."""
        batch, num_tokens, width = tokens.shape
        split = self.key_value(tokens).reshape(batch, num_tokens, 2, self.heads, width // self.heads)
        key, value = split.permute(2, 0, 3, 1, 4)
        query = self.slot.reshape(-1, self.heads, width // self.heads).transpose(0, 1).expand(batch, -1, -1, -1)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = F.gelu(self.hidden(mixed + self.slot))
        return self.out(x).unflatten(-1, (self.num_channels, NUM_BINS))
