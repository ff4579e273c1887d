"""Encoder, decoder, solver and action space as one module: what a car would carry. Frames in, raw chunks out."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowlab.core.plugins import Encoder
from flowlab.policy.action_space import ActionSpace
from flowlab.policy.decoder import AnyDecoder, Decoder
from flowlab.policy.objectives import FlowMatching, Objective
from flowlab.policy.unrolled import UnrolledFlow
from flowlab.study.recipe import EvaluationSettings


class Stitched(nn.Module):
    """One run's policy over its own frozen encoder. Nothing is trained here, and no number is drawn: noise is an input.

    `tokens` are those of the condition's S that the decoder sees, `horizon` the slots H of a chunk: a policy of fewer
    holds its last one. `settings` say solver, steps and noise scale. The decoder has a run axis of one run.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: AnyDecoder,
        objective: Objective,
        space: ActionSpace,
        tokens: Sequence[int],
        horizon: int,
        settings: EvaluationSettings,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.objective, self.space = encoder, decoder, objective, space
        self.tokens, self.horizon, self.settings = list(tokens), horizon, settings
        self.unrolled: UnrolledFlow | None = None
        self.eval().requires_grad_(False)

    def forward(
        self, images: Tensor, history_action: Tensor, speed_mps: Tensor, noise: Tensor, waypoints: Tensor | None = None
    ) -> Tensor:
        """Raw draws (B, K, H, A) of B windows, the last of whose T frames is now; in no way clipped.

        `images` (B, T, height, width, 3) uint8 RGB in the encoder's size, `history_action` (B, T, A) raw, `speed_mps`
        (B, T) metres per second, `waypoints` (B, 10, 2) metres where the encoder has them; `noise` (B, K, h, M)
        standard normal, for the h slots that the decoder predicts.
        """
        batch, length = images.shape[:2]
        features = self.encoder.encode_frames(images.flatten(0, 1))
        in_windows = features.reshape(batch, length, -1)
        condition = self.encoder.encode_windows(in_windows, history_action, speed_mps, waypoints)
        if len(self.tokens) < condition.shape[1]:
            condition = condition[:, self.tokens]
        memory = self.decoder.remember(condition.unsqueeze(0))
        start = (self.settings.noise_scale * noise).unsqueeze(0)
        raw = self.space.to_raw(self.sample(memory, start)[0])
        lacking = self.horizon - self.decoder.horizon
        return torch.cat([raw, *[raw[:, :, -1:]] * lacking], dim=2) if lacking else raw

    def sample(self, memory: Any, noise: Tensor) -> Tensor:
        """Model-space draws (1, B, K, h, M) from noise of that shape."""
        if self.unrolled is not None:
            return self.unrolled(memory, noise)
        return self.objective.sample(self.decoder, memory, noise, self.settings.solver, self.settings.solver_steps)

    def unroll(self) -> "Stitched":
        """The same policy, with a flow's solver written out as a graph that can be traced."""
        found = Stitched(
            self.encoder, self.decoder, self.objective, self.space, self.tokens, self.horizon, self.settings
        )
        if type(self.decoder) is Decoder and type(self.objective) is FlowMatching:
            found.unrolled = UnrolledFlow(self.decoder, self.settings.solver, self.settings.solver_steps)
        return found
