"""A plug-in objective that breaks a promise is refused in one sentence before anything is registered."""

import pytest
import torch

from flowlab.core.errors import PluginError
from flowlab.policy.objective_check import check_objective
from flowlab.policy.objectives import FlowMatching, Regression
from flowlab.study.recipe import ObjectiveSettings

CPU = torch.device("cpu")


def check(objective, horizon: int = 4):
    settings = [ObjectiveSettings()] * 2
    check_objective("mine:It", objective(settings, horizon > 1, CPU), horizon, num_channels=2)


@pytest.mark.parametrize("horizon", [1, 4])
@pytest.mark.parametrize("objective", [FlowMatching, Regression])
def test_flowlabs_own_pass(objective, horizon):
    check(objective, horizon)


class Broken(FlowMatching):
    """Says something else than FlowMatching in one of its losses."""

    def losses(self, decoder, memory, batch, drop):
        return self.spoil(super().losses(decoder, memory, batch, drop))


class NoLoss(Broken):
    def spoil(self, found):
        return {"total": found["loss"]}


class Scalar(Broken):
    def spoil(self, found):
        return {"loss": found["loss"].sum()}


class Detached(Broken):
    def spoil(self, found):
        return {"loss": found["loss"].detach()}


class AFloat(Broken):
    def spoil(self, found):
        return {**found, "extra": 1.0}


class Random(Broken):
    def spoil(self, found):
        return {"loss": found["loss"] * torch.rand(2)}


class Raises(Broken):
    def spoil(self, found):
        raise KeyError("margin")


class RawMetric(FlowMatching):
    error_metric = "l1"


class Untimed(FlowMatching):
    timed = None


class WrongErrors(FlowMatching):
    def errors(self, *arguments):
        return super().errors(*arguments).mean(dim=1)


class WrongSample(FlowMatching):
    def sample(self, *arguments):
        return super().sample(*arguments)[:, :, :1]


class WrongTimes(Regression):
    def times(self, normal):
        return normal.sum()


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        (NoLoss, "reports total, expected a loss among it"),
        (Scalar, r"gives loss in losses of shape \(\), expected \(2,\)"),
        (Detached, "gives a loss without a graph: nothing would be trained"),
        (AFloat, "gives extra in losses as float, expected a tensor"),
        (Random, "gives another loss when asked again: its randomness"),
        (Raises, "fails when it is asked: KeyError: 'margin'"),
        (RawMetric, "calls its error 'l1', which is a metric of raw actions"),
        (Untimed, "has timed = None, expected a bool"),
        (WrongErrors, r"gives errors of shape \(2,\), expected \(2, 3\)"),
        (WrongTimes, r"gives times of shape \(\), expected \(2, 3\)"),
        (WrongSample, r"gives sample of shape \(2, 3, 1, 4, 2\), expected \(2, 3, 2, 4, 2\)"),
    ],
)
def test_a_broken_promise_is_one_sentence(objective, told):
    with pytest.raises(PluginError, match=f"^objective 'mine:It' {told}") as caught:
        check(objective)
    assert "\n" not in str(caught.value)
