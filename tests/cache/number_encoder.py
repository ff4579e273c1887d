"""An encoder whose condition can be read by eye: token 0 holds the rows of the window's frames, token 1 past gas."""

import time

import torch
from torch import Tensor

from flowlab.core.types import ConditionSpec, TokenGroup

T = 3


class NumberEncoder:
    spec = ConditionSpec(T, (TokenGroup("summary", 1), TokenGroup("history", 1)))
    digest = "number-encoder"
    image_height = 4
    image_width = 4

    def __init__(self, scale: float = 1.0, frame_s: float = 0.0) -> None:
        self.scale, self.frame_s = scale, frame_s
        self.frames_seen = 0

    def encode_frames(self, images: Tensor) -> Tensor:
        """The row that the red and green of a frame spell."""
        time.sleep(self.frame_s * len(images))
        self.frames_seen += len(images)
        return (images[:, 0, 0, 0].float() + 256 * images[:, 0, 0, 1].float()).unsqueeze(-1)

    def encode_windows(
        self, features: Tensor, history_action: Tensor, speed_mps: Tensor, waypoints: Tensor | None
    ) -> Tensor:
        return torch.stack([features[:, :, 0] * self.scale, history_action[:, :, 0]], dim=1)
