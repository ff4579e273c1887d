"""flowlab's own objectives keep the promises, an outsider's can, and a wrong one is found out."""

import pytest
import torch
import torch.nn.functional as F

from flowlab.policy.conformance import ObjectiveConformance
from flowlab.policy.decoder import keep_all
from flowlab.policy.objectives import FlowMatching, Regression
from flowlab.policy.path import point_on_path, target_velocity


class TestFlowMatching(ObjectiveConformance):
    def make(self, settings, slots_in_time, device):
        return FlowMatching(settings, slots_in_time, device)


class TestRegression(ObjectiveConformance):
    def make(self, settings, slots_in_time, device):
        return Regression(settings, slots_in_time, device)


class HuberFlow(FlowMatching):
    """An outsider's objective: the Huber loss of the velocity instead of its square."""

    def losses(self, decoder, memory, batch, drop=keep_all):
        t = self.times(batch.time_normal)
        xt = point_on_path(batch.noise, batch.action, t)
        v = decoder(xt.unsqueeze(2), t, memory, drop).squeeze(2)
        huber = F.huber_loss(v, target_velocity(batch.noise, batch.action), reduction="none")
        return {"loss": (batch.weight.unsqueeze(2) * huber).mean(dim=(1, 2, 3))}


class TestAnOutsiders(ObjectiveConformance):
    def make(self, settings, slots_in_time, device):
        return HuberFlow(settings, slots_in_time, device)


class MixesRuns(FlowMatching):
    """Wrong: a run's loss depends on who shares its cohort."""

    def losses(self, decoder, memory, batch, drop=keep_all):
        reported = super().losses(decoder, memory, batch, drop)
        return {**reported, "loss": reported["loss"] / reported["loss"].mean().detach()}


class IgnoresWeights(FlowMatching):
    """Wrong: rare maneuvers weigh no more than others."""

    def losses(self, decoder, memory, batch, drop=keep_all):
        reported = super().losses(decoder, memory, batch, drop)
        return {**reported, "loss": reported["loss"].detach() * 0 + self.errors_of(decoder, memory, batch)}

    def errors_of(self, decoder, memory, batch):
        return self.errors(decoder, memory, batch.action, batch.noise, self.times(batch.time_normal)).mean(dim=1)


class DrawsForItself(FlowMatching):
    """Wrong: a sample adds noise that is not the bank's."""

    def sample(self, decoder, memory, noise, solver, num_steps):
        own = torch.randn(noise.shape)
        return super().sample(decoder, memory, noise + own, solver, num_steps)


class SaysThatItIsDeterministic(FlowMatching):
    """Wrong: its draws differ."""

    deterministic = True


class SaysThatItHasFlowTimes(Regression):
    """Wrong: its error is the same at every flow time, so eight buckets of it would mislead."""

    timed = True


def conformance(objective):
    class Tests(ObjectiveConformance):
        def make(self, settings, slots_in_time, device):
            return objective(settings, slots_in_time, device)

    return Tests()


def test_an_objective_that_mixes_runs_is_found_out():
    with pytest.raises(AssertionError):
        conformance(MixesRuns).test_a_run_in_a_cohort_equals_the_run_alone()
    with pytest.raises(AssertionError):
        conformance(MixesRuns).test_one_runs_nan_stays_with_that_run()


def test_an_objective_that_ignores_the_weights_is_found_out():
    with pytest.raises(AssertionError):
        conformance(IgnoresWeights).test_losses_follow_the_maneuver_weights_and_errors_do_not()


def test_a_sample_that_brings_noise_of_its_own_is_found_out():
    with torch.random.fork_rng(), pytest.raises(AssertionError):
        conformance(DrawsForItself).test_samples_have_the_shape_of_their_noise_and_repeat()


def test_an_objective_that_says_what_it_is_not_is_found_out():
    with pytest.raises(AssertionError):
        conformance(SaysThatItIsDeterministic).test_draws_differ_unless_it_is_deterministic()
    with pytest.raises(AssertionError):
        conformance(SaysThatItHasFlowTimes).test_errors_depend_on_flow_time_only_if_it_says_so()
