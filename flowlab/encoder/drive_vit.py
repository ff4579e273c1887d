"""flowlab's own compact encoder: a ViT on each frame, then a small transformer over the window."""

from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.core.digest import canonical_json, digest_bytes
from flowlab.core.seeds import derive_seed
from flowlab.core.types import NUM_WAYPOINTS, ConditionSpec, TokenGroup
from flowlab.core.vocabulary import IMAGE_TOKENS, WAYPOINT_TOKENS
from flowlab.encoder.transformer import Block, Linear, RotaryAngles, initialise
from flowlab.study.huggingface import TemporalSettings
from flowlab.study.settings import DriveViTSettings

ARCHITECTURE_VERSION = 2
SPEED_SCALE_MPS = 20.0
WAYPOINT_SCALE_M = 20.0


class FrameViT(nn.Module):
    """One image -> F features: the class token beside the mean of the patch tokens, so F is twice the token width."""

    def __init__(self, settings: DriveViTSettings) -> None:
        super().__init__()
        width = settings.image_width_tokens
        self.patch = settings.patch
        num_patches = (settings.image_height // settings.patch) * (settings.image_width // settings.patch)
        self.embed = Linear(3 * settings.patch**2, width)
        self.position = nn.Parameter(torch.zeros(num_patches, width))
        self.class_token = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(Block(width, settings.heads) for _ in range(settings.image_layers))
        self.norm = nn.LayerNorm(width)
        self.num_features = 2 * width
        self.rows = settings.image_height // settings.patch

    def forward(self, images: Tensor) -> Tensor:
        """(N, height, width, 3) floats about 0 -> (N, F)."""
        return self.summarise(self.tokens(images))

    def tokens(self, images: Tensor) -> Tensor:
        """(N, height, width, 3) floats about 0 -> (N, 1 + patches, token width): the class token, then row by row."""
        num, height, width, _ = images.shape
        side = self.patch
        patches = images.reshape(num, height // side, side, width // side, side, 3).transpose(2, 3)
        x = self.embed(patches.reshape(num, -1, 3 * side**2)) + self.position
        x = torch.cat([self.class_token.expand(num, 1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def summarise(self, tokens: Tensor) -> Tensor:
        """The features (N, F) of `tokens`."""
        return torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=-1)

    def grid(self, tokens: Tensor, side: int) -> Tensor:
        """(N, side * side * token width): the patch tokens averaged over a grid of side x side parts of the image."""
        patches = tokens[:, 1:].transpose(1, 2).unflatten(2, (self.rows, -1))
        return F.adaptive_avg_pool2d(patches, side).flatten(2).transpose(1, 2).flatten(1)


class WindowTransformer(nn.Module):
    """T frame tokens, T action-and-speed tokens, the waypoints and two learned queries attend to each other.

    Rotary positions carry the time step; waypoints and queries stand at now. What leaves are the two queries (an
    observation summary and an observation history) and the waypoint tokens. The history query also starts from all past
    actions and speeds through one linear map: a decoder must be able to read the last action to a hundredth, and
    attention alone is slow to learn to copy.
    """

    def __init__(
        self,
        settings: DriveViTSettings | TemporalSettings,
        num_features: int,
        num_channels: int,
        history: int,
        waypoints: bool,
    ) -> None:
        super().__init__()
        width = settings.width
        self.history = history
        self.num_waypoints = NUM_WAYPOINTS if waypoints else 0
        self.frame = Linear(num_features, width)
        self.state = Linear(num_channels + 1, width)
        self.past = Linear(history * (num_channels + 1), width)
        self.waypoint = Linear(2, width) if waypoints else None
        self.kind = nn.Parameter(torch.zeros(4, width))  # frame, state, summary, history
        self.waypoint_index = nn.Parameter(torch.zeros(self.num_waypoints, width)) if waypoints else None
        now = history - 1
        steps = (now, now, *[now] * self.num_waypoints, *range(history), *range(history))
        self.rotary = RotaryAngles(steps, width // settings.heads)
        self.blocks = nn.ModuleList(Block(width, settings.heads) for _ in range(settings.temporal_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor, action: Tensor, speed: Tensor, waypoints: Tensor | None) -> Tensor:
        """(B, T, F), (B, T, A), (B, T) about 1, (B, 10, 2) about 1 -> (B, S, D)."""
        state = torch.cat([action, speed.unsqueeze(-1)], dim=-1)
        queries = self.kind[2:].expand(state.shape[0], -1, -1)
        past = F.pad(self.past(state.flatten(1)).unsqueeze(1), (0, 0, 1, 0))  # for the second query only
        tokens = [queries + past]
        if self.waypoint is not None and waypoints is not None:
            tokens.append(self.waypoint(waypoints) + self.waypoint_index)
        tokens += [self.frame(features) + self.kind[0], self.state(state) + self.kind[1]]
        x = torch.cat(tokens, dim=1)
        for block in self.blocks:
            x = block(x, self.rotary)
        return self.norm(x[:, : 2 + self.num_waypoints])


class DriveViT(nn.Module):
    """The encoder `drive-vit` (core.plugins.Encoder).

    Its weights follow from `settings.seed` until it is trained or loaded; `digest` is empty until `freeze` names them.
    """

    def __init__(
        self, settings: DriveViTSettings, channels: tuple[str, ...], has_waypoints: bool, history: int
    ) -> None:
        super().__init__()
        self.settings, self.channels = settings, channels
        self.has_waypoints, self.history = has_waypoints, history
        self.image_height, self.image_width = settings.image_height, settings.image_width
        groups: tuple[TokenGroup, ...] = (TokenGroup("summary", 1), TokenGroup("history", 1))
        if has_waypoints:
            groups = (*groups, TokenGroup(WAYPOINT_TOKENS, NUM_WAYPOINTS))
        if settings.image_grid:
            groups = (*groups, TokenGroup(IMAGE_TOKENS, settings.image_grid**2))
        self.spec = ConditionSpec(settings.width, groups)
        self.image = FrameViT(settings)
        self.window = WindowTransformer(settings, self.image.num_features, len(channels), history, has_waypoints)
        initialise(self, torch.Generator().manual_seed(derive_seed(settings.seed, "encoder", "init")))
        self.summary: dict[str, Any] = {}
        self.digest = ""

    @classmethod
    def from_architecture(cls, told: Mapping[str, Any]) -> Self:
        """The module that `architecture` told of, with weights of its seed. KeyError or ValueError for other JSON."""
        settings = DriveViTSettings.model_validate(told["settings"])
        return cls(settings, tuple(told["channels"]), told["has_waypoints"], told["history"])

    def encode_frames(self, images: Tensor) -> Tensor:
        """(N, height, width, 3) uint8 -> (N, F) float32, on the images' device; the image tokens come last."""
        tokens = self.image.tokens(images.float() / 127.5 - 1.0)
        features = self.image.summarise(tokens)
        side = self.settings.image_grid
        return torch.cat([features, self.image.grid(tokens, side)], dim=-1) if side else features

    def encode_windows(
        self, features: Tensor, history_action: Tensor, speed_mps: Tensor, waypoints: Tensor | None
    ) -> Tensor:
        """(B, T, F), raw (B, T, A), metres per second (B, T), metres (B, 10, 2) -> condition (B, S, D) float32.

        Image tokens are those of now, filled up with zeros to the width D.
        """
        num_features = self.image.num_features
        tokens = self.window_tokens(features[..., :num_features], history_action, speed_mps, waypoints)
        if not self.settings.image_grid:
            return tokens
        image = features[:, -1, num_features:].unflatten(1, (self.settings.image_grid**2, -1))
        return torch.cat([tokens, F.pad(image, (0, self.settings.width - image.shape[-1]))], dim=1)

    def window_tokens(
        self, features: Tensor, history_action: Tensor, speed_mps: Tensor, waypoints: Tensor | None
    ) -> Tensor:
        """The condition without its image tokens, as `encode_windows` gives it."""
        scaled = None if waypoints is None else waypoints / WAYPOINT_SCALE_M
        return self.window(features, history_action, speed_mps / SPEED_SCALE_MPS, scaled)

    def architecture(self) -> dict[str, Any]:
        """What it takes to build this module again, as plain JSON."""
        return {
            "kind": "drive-vit",
            "version": ARCHITECTURE_VERSION,
            "settings": self.settings.model_dump(mode="json"),
            "channels": list(self.channels),
            "has_waypoints": self.has_waypoints,
            "history": self.history,
        }

    def freeze(self) -> Self:
        """This encoder, no longer trainable, with its `digest`: 16 hex digits over architecture and weights."""
        self.digest = digest_of(self.architecture(), self.state_dict())
        return self.requires_grad_(False).eval()


def digest_of(architecture: dict[str, Any], weights: Mapping[str, Tensor]) -> str:
    """16 hex digits over an encoder's architecture and weights. TypeError for weights that numpy has no type for."""
    parts = [part for name, value in sorted(weights.items()) for part in _named_bytes(name, value)]
    return digest_bytes(canonical_json(architecture).encode(), *parts)


def _named_bytes(name: str, value: Tensor) -> tuple[bytes, bytes]:
    return name.encode(), value.detach().cpu().contiguous().numpy().tobytes()
