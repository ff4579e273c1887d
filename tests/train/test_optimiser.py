import math

import pytest
import torch

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy.decoder import Decoder, initialise, run_weights
from flowlab.study.recipe import DecoderSettings, TrainSettings
from flowlab.train.optimiser import CohortAdamW, schedule

SPEC = ConditionSpec(12, (TokenGroup("tokens", 5),))
SETTINGS = [
    TrainSettings(lr=1e-2, warmup_steps=2, steps=10),
    TrainSettings(
        lr=3e-3, warmup_steps=3, steps=10, warmup_from_zero=False, betas=(0.8, 0.99), weight_decay=0.3, clip_norm=0.25
    ),
]


def build(seeds=(1, 2)) -> Decoder:
    decoder = Decoder(len(seeds), DecoderSettings(width=16, heads=2, layers=2), 4, 2, SPEC)
    initialise(decoder, seeds)
    return decoder


def copies(decoder: Decoder, run: int) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in run_weights(decoder, run).items()}


def gradients(decoder: Decoder, step: int, scale: float) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [scale * torch.randn(p.shape, generator=generator) for p in decoder.parameters()]


def warmed_cosine(step: int, warmup: int, steps: int, from_zero: bool) -> float:
    if step < warmup:
        return (step if from_zero else step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def is_matrix(name: str) -> bool:
    return name.endswith(".weight")


@pytest.mark.parametrize("fused", [True, False])
def test_each_run_is_torchs_adamw_with_torchs_clipping(fused):
    together = build()
    optimiser = CohortAdamW(together, SETTINGS)
    alone = [copies(together, run) for run in range(2)]
    plain = []
    for weights, own in zip(alone, SETTINGS, strict=True):
        groups = [
            {"params": [w for name, w in weights.items() if is_matrix(name)], "weight_decay": own.weight_decay},
            {"params": [w for name, w in weights.items() if not is_matrix(name)], "weight_decay": 0.0},
        ]
        plain.append(torch.optim.AdamW(groups, lr=0.0, betas=own.betas, fused=fused))
    for step, scale in enumerate([1.0, 1e-3, 10.0, 1e-4, 0.1]):  # clipped in some steps, not in others
        given = gradients(together, step, scale)
        torch._foreach_copy_(optimiser.views, given)
        norms = optimiser.update(step)
        for run, own in enumerate(SETTINGS):
            for weight, gradient in zip(alone[run].values(), given, strict=True):
                weight.grad = gradient[run].clone()
            norm = torch.nn.utils.clip_grad_norm_(alone[run].values(), own.clip_norm)
            for group in plain[run].param_groups:
                group["lr"] = own.lr * warmed_cosine(step, own.warmup_steps, own.steps, own.warmup_from_zero)
            plain[run].step()
            assert norms[run].item() == pytest.approx(norm.item(), rel=1e-6)  # the norm of all, not of norms
    for run in range(2):
        for name, weight in run_weights(together, run).items():
            assert (weight - alone[run][name]).abs().max() <= 1e-6, name


def test_a_step_uses_the_gradients_of_the_last_loss_alone():
    decoder = build()
    optimiser = CohortAdamW(decoder, SETTINGS)
    for _ in range(2):
        optimiser.differentiate(torch.stack([parameter[1].sum() for parameter in decoder.parameters()]))
        norms = optimiser.update(5)
        assert norms[0] == 0
        assert norms[1].item() == pytest.approx(math.sqrt(sum(p[1].numel() for p in decoder.parameters())), rel=1e-5)


def test_the_schedule_by_hand():
    settings = TrainSettings(steps=20, warmup_steps=5)
    assert [schedule(step, settings) for step in range(5)] == [0, 1 / 5, 2 / 5, 3 / 5, 4 / 5]
    assert schedule(5, settings) == 1.0
    assert schedule(10, settings) == pytest.approx(0.75)  # a third of the way: cos(pi / 3) = 1/2
    assert schedule(19, settings) == pytest.approx(0.5 * (1 - math.cos(math.pi / 15)))  # 0.011, one step before zero


def test_a_warm_up_from_its_second_step_is_one_step_ahead_and_then_the_same():
    from_zero = TrainSettings(steps=20, warmup_steps=5)
    ahead = from_zero.model_copy(update={"warmup_from_zero": False})
    assert [schedule(step, ahead) for step in range(5)] == [1 / 5, 2 / 5, 3 / 5, 4 / 5, 1]
    assert [schedule(step, ahead) for step in range(5, 20)] == [schedule(step, from_zero) for step in range(5, 20)]


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (3, 3), (3, 9)])
@pytest.mark.parametrize("from_zero", [True, False])
def test_the_schedule_of_a_short_run_is_finite_and_zero_at_its_first_step_alone(steps, warmup, from_zero):
    settings = TrainSettings(steps=steps, warmup_steps=warmup, warmup_from_zero=from_zero)
    assert all(0 <= schedule(step, settings) <= 1 for step in range(steps))
    assert [step for step in range(steps) if schedule(step, settings) == 0] == [0] * (from_zero and warmup > 0)


def test_weight_decay_touches_matrices_only():
    decoder = build(seeds=(1,))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter += 1.0
    before = copies(decoder, 0)
    CohortAdamW(decoder, [TrainSettings(lr=0.5, warmup_steps=0, weight_decay=0.1)]).update(0)  # gradients are zero
    after = run_weights(decoder, 0)
    for name, weight in before.items():
        expected = weight * (1 - 0.5 * 0.1) if is_matrix(name) else weight
        assert torch.allclose(after[name], expected, rtol=1e-6), name


def test_each_run_has_its_own_learning_rate():
    decoder = build(seeds=(1, 1))
    before = copies(decoder, 0)
    optimiser = CohortAdamW(decoder, [TrainSettings(lr=lr, warmup_steps=0, weight_decay=0.0) for lr in (1e-2, 2e-2)])
    for gradient in optimiser.views:
        gradient.fill_(1e-3)
    optimiser.update(0)
    for name, weight in before.items():  # the first step of Adam has the length lr in each entry
        assert torch.allclose(weight - run_weights(decoder, 0)[name], torch.tensor(1e-2), rtol=1e-3), name
        assert torch.allclose(weight - run_weights(decoder, 1)[name], torch.tensor(2e-2), rtol=1e-3), name


def test_moments_go_into_another_place_and_continue():
    first = build()
    ours = CohortAdamW(first, SETTINGS)
    assert not any(moment.any() for moment in ours.run_state(0).values())
    torch._foreach_copy_(ours.views, gradients(first, 0, 1.0))
    ours.update(0)
    moved = build(seeds=(2,))
    with torch.no_grad():
        for (_, to), (_, source) in zip(moved.named_stacked(), first.named_stacked(), strict=True):
            to[0].copy_(source[1])
    theirs = CohortAdamW(moved, SETTINGS[1:])
    theirs.load_run_state(0, ours.run_state(1), step=1)
    given = gradients(first, 1, 1.0)
    torch._foreach_copy_(ours.views, given)
    torch._foreach_copy_(theirs.views, [gradient[1:] for gradient in given])
    ours.update(1)
    theirs.update(1)
    assert all(torch.equal(w, run_weights(first, 1)[name]) for name, w in run_weights(moved, 0).items())


def test_a_parameter_that_the_loss_does_not_know_has_no_gradient():
    decoder = build()
    optimiser = CohortAdamW(decoder, SETTINGS)
    torch._foreach_copy_(optimiser.views, gradients(decoder, 0, 1.0))
    optimiser.differentiate(decoder.velocity.bias.sum(dim=1))
    found = dict(zip([name for name, _ in decoder.named_stacked()], optimiser.views, strict=True))
    assert {name for name, gradient in found.items() if gradient.any()} == {"velocity.bias"}
