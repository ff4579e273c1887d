"""A policy made by hand: its velocity is a function, its action space the identity, its noise the bank's."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.evaluate.diagnose.subject import Subject
from flowlab.policy.action_space import ActionSpace, Identity
from flowlab.policy.layers import Drop, StackedParameter, keep_all
from flowlab.policy.objectives import FlowMatching, Objective, Regression
from flowlab.study.recipe import EvaluationSettings, ObjectiveSettings
from flowlab.study.slices import SliceSettings
from tests.evaluate.made_frames import made_frames

CPU = torch.device("cpu")
CHANNELS = ("throttle", "steering")
SPIKE = {"spike": SliceSettings(channel="steering", size_above=0.5, slots="any")}

Velocity = Callable[[Tensor, float, Tensor], Tensor]
"""(x (1, B, K, H, M), t, condition (1, B, S, D)) -> velocity of the shape of x."""


class MadeDecoder:
    """A decoder of one run without parameters."""

    num_runs = 1

    def __init__(self, velocity: Velocity, horizon: int, num_channels: int) -> None:
        self.velocity, self.horizon, self.num_channels = velocity, horizon, num_channels

    def remember(self, condition: Tensor) -> Tensor:
        return condition

    def __call__(self, xt: Tensor, t: Tensor, memory: Any, drop: Drop = keep_all) -> Tensor:
        return self.velocity(xt, float(t.flatten()[0]), memory).expand(xt.shape)

    def named_stacked(self) -> list[tuple[str, StackedParameter]]:
        return []

    def run_buffers(self, run: int) -> dict[str, Tensor]:
        return {}


def made_subject(
    velocity: Velocity = lambda x, t, condition: torch.zeros_like(x),
    truth: NDArray | None = None,
    *,
    condition: Tensor | None = None,
    groups: Sequence[tuple[str, int]] = (("only", 1),),
    objective: type = FlowMatching,
    draws: int = 4,
    waypoints: NDArray | None = None,
    **frames: Any,
) -> Subject:
    """A subject of two channels; steering is the one that is looked at. Nothing is clipped."""
    truth = np.zeros((3, 2, 2), np.float32) if truth is None else truth.astype(np.float32)
    if condition is None:
        condition = torch.zeros(len(truth), sum(num for _, num in groups), 1)
    made = replace(made_frames(truth, CHANNELS, condition=condition.half(), **frames), waypoints=waypoints)
    asked: Objective = objective([ObjectiveSettings()], True, CPU)
    return Subject(
        run_id="control-1001-0",
        decoder=MadeDecoder(velocity, truth.shape[1], len(CHANNELS)),
        objective=asked,
        space=ActionSpace(CHANNELS, CHANNELS, Identity()),
        settings=EvaluationSettings(draws=draws, solver="heun", solver_steps=4, clip=False),
        frames=made,
        slices=SPIKE,
        channel="steering",
        spec=ConditionSpec(condition.shape[-1], tuple(TokenGroup(name, num) for name, num in groups)),
    )


def first_token(x: Tensor, t: float, condition: Tensor) -> Tensor:
    """For a regression: every slot and channel of the chunk is the first number of the condition."""
    return condition[:, :, 0, 0].reshape(1, -1, 1, 1, 1).expand(x.shape)


REGRESSION = Regression
