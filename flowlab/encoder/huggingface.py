"""The encoder `huggingface`: a frozen model of transformers for each frame, and our temporal part, or none, on top."""

from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.core.digest import digest_json
from flowlab.core.errors import EncoderError
from flowlab.core.seeds import derive_seed
from flowlab.core.types import NUM_WAYPOINTS, ConditionSpec, TokenGroup
from flowlab.core.vocabulary import IMAGE_TOKENS, WAYPOINT_TOKENS
from flowlab.encoder.backbone import Backbone, open_backbone
from flowlab.encoder.drive_vit import SPEED_SCALE_MPS, WAYPOINT_SCALE_M, WindowTransformer, digest_of
from flowlab.encoder.model_folder import ModelFolder, open_folder
from flowlab.encoder.transformer import initialise
from flowlab.study.huggingface import HUGGING_FACE, HuggingFaceSettings, TemporalSettings

ARCHITECTURE_VERSION = 1
TEMPORAL_KEYS = set(TemporalSettings.model_fields)


class HuggingFaceEncoder(nn.Module):
    """A frozen vision model of transformers (core.plugins.Encoder).

    With the temporal part, condition tokens are those of `drive-vit`: its features of a frame are the model's pooled
    token. That part is pretrained on one pass of the frames as they are: the image part was not trained on them, so it
    has not learnt them by heart, and a jitter of pixels would have to go through a model that is large.

    Without, nothing is learnt: `summary` is the pooled token of now as the model gives it, `history` all past actions
    and speeds, `waypoints` one token each with x, y and a one at its index; both filled up with zeros. Frames before
    now are then not seen.
    """

    def __init__(
        self,
        settings: HuggingFaceSettings,
        backbone: Backbone,
        channels: tuple[str, ...],
        has_waypoints: bool,
        history: int,
    ) -> None:
        super().__init__()
        self.settings, self.channels = settings, channels
        self.has_waypoints, self.history = has_waypoints, history
        self.image_height, self.image_width = backbone.size
        self.image = backbone
        self.temporal = settings.temporal_part(backbone.layout.width)
        self.window: WindowTransformer | None = None
        width = self.temporal.width if settings.is_trained else backbone.layout.width
        groups = [TokenGroup("summary", 1), TokenGroup("history", 1)]
        if has_waypoints:
            groups.append(TokenGroup(WAYPOINT_TOKENS, NUM_WAYPOINTS))
        if settings.makes_image_tokens:
            groups.append(TokenGroup(IMAGE_TOKENS, backbone.num_image_tokens))
        self.spec = ConditionSpec(width, tuple(groups))
        self._require_width(width)
        if settings.is_trained:
            self.window = WindowTransformer(self.temporal, backbone.layout.width, len(channels), history, has_waypoints)
            initialise(self.window, torch.Generator().manual_seed(derive_seed(settings.seed, "encoder", "init")))
        self.summary: dict[str, Any] = {}
        self.digest = "" if settings.is_trained else digest_json(self.architecture())

    def encode_frames(self, images: Tensor) -> Tensor:
        """(N, height, width, 3) uint8 -> (N, F) float32, on the images' device; the image tokens come last."""
        tokens = self.image(images)
        return tokens.pooled if tokens.image is None else torch.cat([tokens.pooled, tokens.image.flatten(1)], dim=-1)

    def encode_windows(
        self, features: Tensor, history_action: Tensor, speed_mps: Tensor, waypoints: Tensor | None
    ) -> Tensor:
        """(B, T, F), raw (B, T, A), metres per second (B, T), metres (B, 10, 2) -> condition (B, S, D) float32.

        Image tokens are those of now, filled up with zeros to the width D.
        """
        hidden = self.image.layout.width
        tokens = self.window_tokens(features[..., :hidden], history_action, speed_mps, waypoints)
        if not self.settings.makes_image_tokens:
            return tokens
        image = features[:, -1, hidden:].unflatten(1, (-1, hidden))
        return torch.cat([tokens, F.pad(image, (0, self.spec.width - hidden))], dim=1)

    def window_tokens(
        self, features: Tensor, history_action: Tensor, speed_mps: Tensor, waypoints: Tensor | None
    ) -> Tensor:
        """The condition without its image tokens, as `encode_windows` gives it."""
        speed = speed_mps / SPEED_SCALE_MPS
        scaled = None if waypoints is None else waypoints / WAYPOINT_SCALE_M
        if self.window is not None:
            return self.window(features, history_action, speed, scaled)
        past = torch.cat([history_action, speed.unsqueeze(-1)], dim=-1).flatten(1)
        parts = [features[:, -1:], self._filled(past.unsqueeze(1))]
        if scaled is not None:
            index = torch.eye(NUM_WAYPOINTS, device=scaled.device).expand(len(scaled), -1, -1)
            parts.append(self._filled(torch.cat([scaled, index], dim=-1)))
        return torch.cat(parts, dim=1)

    def _filled(self, tokens: Tensor) -> Tensor:
        return F.pad(tokens, (0, self.spec.width - tokens.shape[-1]))

    def architecture(self) -> dict[str, Any]:
        """What names this encoder beside the weights of its temporal part, as plain JSON."""
        identity = self.image.folder.identity(self.settings)
        return describe_architecture(self.settings, identity, self.channels, self.has_waypoints, self.history)

    def freeze(self) -> Self:
        """This encoder, no longer trainable, with its `digest`: 16 hex digits over architecture and weights."""
        if self.window is not None:
            self.digest = digest_of(self.architecture(), self.window.state_dict())
        return self.requires_grad_(False).eval()

    def _require_width(self, width: int) -> None:
        """Raises EncoderError where the model's tokens, or the numbers of a window, do not fit into a token."""
        hidden, name = self.image.layout.width, self.settings.model
        if not self.settings.is_trained:
            needed = {"the past actions and speeds are": self.history * (len(self.channels) + 1)}
            if self.has_waypoints:
                needed["a waypoint and its index are"] = 2 + NUM_WAYPOINTS
            for what, num in needed.items():
                if num > width:
                    raise EncoderError(
                        f"{what} {num} numbers, and a token of model {name!r} has {width}. Set encoder.temporal = "
                        f"'transformer', or a shorter windows.history."
                    )
        elif width % (2 * self.settings.heads):
            raise EncoderError(
                f"the tokens of model {name!r} are {width} wide, which is no multiple of twice the heads "
                f"({self.settings.heads}). Set encoder.heads, or encoder.width to a width of the temporal part's own."
            )
        elif self.settings.makes_image_tokens and hidden > width:
            raise EncoderError(
                f"the tokens of model {name!r} are {hidden} wide, and a condition token, which an image token becomes, "
                f"is {width}. Set encoder.width to {hidden} or more."
            )


def open_huggingface(
    settings: HuggingFaceSettings,
    root: Path,
    channels: tuple[str, ...],
    has_waypoints: bool,
    history: int,
    device: torch.device | str = "cpu",
) -> HuggingFaceEncoder:
    """The encoder over the model that `settings` name, on `device`; its temporal part, if any, is not trained yet.

    `root` is the study's folder. Raises what `open_folder` and `open_backbone` do.
    """
    backbone = open_backbone(open_folder(settings.model, root), settings, device)
    return HuggingFaceEncoder(settings, backbone, channels, has_waypoints, history).to(device)


def digest_without_temporal(
    settings: HuggingFaceSettings, folder: ModelFolder, channels: tuple[str, ...], has_waypoints: bool, history: int
) -> str:
    """The digest that an encoder with temporal = "none" has, without opening the model."""
    identity = folder.identity(settings)
    return digest_json(describe_architecture(settings, identity, channels, has_waypoints, history))


def describe_architecture(
    settings: HuggingFaceSettings, identity: str, channels: tuple[str, ...], has_waypoints: bool, history: int
) -> dict[str, Any]:
    """The architecture of an encoder over the model of that identity. Where it lies is no part of it."""
    temporal = settings.model_dump(mode="json", include=TEMPORAL_KEYS) if settings.is_trained else None
    return {
        "kind": HUGGING_FACE,
        "version": ARCHITECTURE_VERSION,
        "model": identity,
        "temporal": temporal,
        "channels": list(channels),
        "has_waypoints": has_waypoints,
        "history": history,
    }
