"""The plain way computes what flowlab computes: the benchmarks compare two ways of one arithmetic."""

import pytest
import torch
from plain import PlainDecoder, PlainRun, Windows, flow_loss, load_flowlab_weights, loader, plain_tensor, sample
from torch import Tensor

from flowlab.evaluate.draws import sample_frames
from flowlab.policy.decoder import run_weights
from flowlab.policy.objectives import Batch, FlowMatching
from flowlab.study.recipe import DecoderSettings, EvaluationSettings, ObjectiveSettings, Recipe, TrainSettings
from flowlab.train.optimiser import CohortAdamW
from tests.policy.published_sizes import CHANNELS, HORIZON, PUBLISHED, TOKENS_WIDTH, inputs, somewhat_trained, velocity

SMALL = DecoderSettings(width=32, heads=2, layers=2, mlp_multiplier=2.0, dropout=0.0)
CPU = torch.device("cpu")


def both(settings: DecoderSettings, checkpoints: bool = False):
    """flowlab's decoder, somewhat trained, and the plain one with its weights."""
    ours = somewhat_trained(settings)
    plain = PlainDecoder(settings, HORIZON, CHANNELS, TOKENS_WIDTH, checkpoints)
    load_flowlab_weights(plain, run_weights(ours, 0))
    return ours, plain


def windows(num: int = 40, seed: int = 0) -> Windows:
    """Chunks that hold the first two features of the condition."""
    _, condition = inputs(num, seed)
    action = condition[:, :1, :CHANNELS].expand(-1, HORIZON, -1).contiguous()
    weight = torch.rand(num, CHANNELS, generator=torch.Generator().manual_seed(seed)) + 0.5
    return Windows(condition.half(), action, weight)


@pytest.mark.parametrize("settings", [PUBLISHED, SMALL], ids=["published", "small"])
@torch.no_grad()
def test_the_same_weights_give_the_same_velocities(settings):
    ours, plain = both(settings)
    xt, condition = inputs(8)
    t = torch.tensor([0.0, 1.0, 1e-8, 0.5, 0.25, 0.93, 0.9999, 0.7])
    expected = velocity(ours, xt, t, condition)
    assert expected.abs().max() > 0.5
    assert (plain.eval()(xt, t, condition) - expected).abs().max() < 1e-5


def test_both_have_the_same_number_of_parameters():
    ours, plain = both(PUBLISHED)
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in ours.parameters()) == 5_100_802


@pytest.mark.parametrize("checkpoints", [False, True])
def test_one_training_step_has_the_same_gradients(checkpoints):
    ours, plain = both(SMALL, checkpoints)
    settings = ObjectiveSettings()
    train = TrainSettings(batch=16, warmup_steps=0)
    noise, time_normal = inputs(16, seed=3)[0], torch.randn(16, generator=torch.Generator().manual_seed(4))
    condition, action, weight = next(iter(loader(windows(), 16, seed=5)))

    objective = FlowMatching([settings], True, CPU)
    batch = Batch(action[None], noise[None], time_normal[None], weight[None])
    optimiser = CohortAdamW(ours, [train])
    optimiser.differentiate(objective.losses(ours, ours.remember(condition.float()[None]), batch)["loss"])
    found = flow_loss(plain.train(), (condition, action, weight), noise, time_normal.sigmoid(), settings.delta_weight)
    found.backward()

    gradients = optimiser.flat.by_name(optimiser.gradients[0])
    for name, parameter in plain.named_parameters():
        expected = plain_tensor(name, gradients)
        assert expected.abs().max() > 1e-6, name
        assert (parameter.grad - expected).abs().max() < 1e-4 * expected.abs().max(), name


@pytest.mark.parametrize("settings", [PUBLISHED, SMALL], ids=["published", "small"])
def test_the_sampler_draws_the_same_chunks(settings):
    ours, plain = both(settings)
    _, condition = inputs(3)
    noise = torch.randn(3, 16, HORIZON, CHANNELS, generator=torch.Generator().manual_seed(1))
    objective = FlowMatching([ObjectiveSettings()], True, CPU)
    how = EvaluationSettings(draws=16, solver="heun", solver_steps=4)
    expected = sample_frames(objective, ours, condition, noise, how)
    found = sample(plain.eval(), condition, noise, "heun", 4)
    assert (found - expected.reshape(found.shape)).abs().max() < 1e-5


def test_weight_decay_takes_the_same_parameters():
    ours, _ = both(PUBLISHED)
    run = plain_run(decoder=PUBLISHED)
    decays, others = run.optimiser.param_groups
    assert sum(p.numel() for p in decays["params"]) == sum(p.numel() for _, p in ours.named_stacked() if p.decays)
    assert sum(p.numel() for p in others["params"]) == sum(p.numel() for _, p in ours.named_stacked() if not p.decays)
    assert (decays["weight_decay"], others["weight_decay"]) == (0.1, 0.0)


def plain_run(decoder: DecoderSettings = SMALL, checkpoints: bool = False, **train) -> PlainRun:
    recipe = Recipe(decoder=decoder, train=TrainSettings(batch=16, steps=60, warmup_steps=3, lr=3e-3, **train))
    return PlainRun(recipe, windows(), seed=1, device=CPU, checkpoints=checkpoints)


def test_it_learns_and_recomputation_changes_no_number():
    """With dropout: what is recomputed is dropped alike."""
    dropping = SMALL.model_copy(update={"dropout": 0.1})
    losses = []
    for checkpoints in (False, True):
        run = plain_run(dropping, checkpoints)
        losses.append([float(run.step()) for _ in range(30)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert sum(losses[0][-5:]) < 0.8 * sum(losses[0][:5])


def test_its_average_follows_the_weights_as_flowlabs_does():
    """Decay (1 + step) / (10 + step): after the first step the average is 0.1 of the way from the initial weights."""
    run = plain_run(ema_decay=0.999)
    values: list[Tensor] = [run.model.velocity.weight.detach().clone()]
    for _ in range(2):
        run.step()
        values.append(run.model.velocity.weight.detach().clone())
    averaged = run.average.module.velocity.weight
    after_first = values[0] + (1 - 1 / 10) * (values[1] - values[0])
    expected = after_first + (1 - 2 / 11) * (values[2] - after_first)
    assert (averaged - expected).abs().max() < 1e-6
