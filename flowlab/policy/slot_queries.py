"""The trunk without noise and flow time: learnt slot queries, asked once. What a regression in the published shape is.

At the published sizes (width 256, 4 layers, 12 tokens of 384, 6 slots, 2 channels) it has 3,001,602 parameters.
"""

from typing import Any

from torch import Tensor, nn

from flowlab.core.types import ConditionSpec
from flowlab.policy.decoder import ConditionEntry, Memory, Trunk
from flowlab.policy.layers import Drop, StackedLinear, StackedParameter, keep_all, stacked_parameter
from flowlab.study.recipe import DecoderSettings


class SlotQueries(nn.Module):
    """R trunks of one shape, which ignore the noisy chunk and the flow time that a decoder is given.

    Raises CacheMismatchError when the settings want a token group that `spec` lacks.
    """

    def __init__(
        self, num_runs: int, settings: DecoderSettings, horizon: int, num_channels: int, spec: ConditionSpec
    ) -> None:
        super().__init__()
        self.num_runs, self.horizon, self.num_channels = num_runs, horizon, num_channels
        self.condition = ConditionEntry(num_runs, settings, spec)
        self.slot = stacked_parameter(num_runs, horizon, settings.width, init="trunc-normal")
        self.blocks = Trunk(num_runs, settings, horizon, self.condition.source_width, timed=False)
        self.velocity = StackedLinear(num_runs, settings.width, num_channels, settings.init)

    def remember(self, condition: Tensor) -> Memory:
        """Condition (R, B, S, D) -> every block's keys and values of it."""
        source, _ = self.condition(condition)
        return Memory(self.blocks.keys_values(source), None)

    def forward(self, xt: Tensor, t: Tensor, memory: Any, drop: Drop = keep_all) -> Tensor:
        """The chunk (R, B, K, H, M), the same for every draw, for an x_t of that shape."""
        del t
        num_runs, num_frames, num_draws, horizon, _ = xt.shape
        queries = self.slot[:, None, None].expand(num_runs, num_frames, 1, horizon, -1)
        chunk = self.velocity(self.blocks(queries, None, memory, drop)).float()
        return chunk.expand(num_runs, num_frames, num_draws, horizon, -1)

    def named_stacked(self) -> list[tuple[str, StackedParameter]]:
        """Every parameter by name."""
        return list(self.named_parameters())  # type: ignore[arg-type]

    def run_buffers(self, run: int) -> dict[str, Tensor]:
        """Nothing: a decoder is its parameters."""
        del run
        return {}
