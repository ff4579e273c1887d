"""What the benchmarks train on: random conditions, and chunks of two modes that can be learnt from them."""

from dataclasses import dataclass

import torch
from plain import PlainDecoder, Windows, load_flowlab_weights
from torch import Tensor

from flowlab.policy.action_space import ActionSpace, fit_action_space
from flowlab.policy.decoder import run_weights
from flowlab.policy.weights import fit_label_density
from flowlab.study.recipe import DecoderSettings, EvaluationSettings, Recipe, TrainSettings
from flowlab.train.cohort import Cohort, Run
from flowlab.train.data import TrainData, channel_alphas, train_data
from flowlab.train.fit import Listener, Trained, fit
from flowlab.train.validate import Validation, validation_data

HORIZON, RAW_CHANNELS, NUM_TOKENS = 6, ("gas", "brake", "steering"), 12


@dataclass(frozen=True)
class Size:
    """How large a policy is, and the condition that it looks at."""

    recipe: Recipe
    condition_width: int


SIZES = {
    "tiny": Size(
        Recipe(decoder=DecoderSettings(width=16, layers=1), train=TrainSettings(batch=16, steps=600, warmup_steps=50)),
        128,
    ),
    "demo": Size(
        Recipe(
            decoder=DecoderSettings(width=64, layers=3),
            train=TrainSettings(batch=128, steps=600, lr=1e-3, warmup_steps=50),
            evaluation=EvaluationSettings(draws=16, solver_steps=4, precision="float16"),
        ),
        128,
    ),
    "published": Size(Recipe(), 384),
}
"""The demo's is that of experiments.toml, the published one what a recipe is that says nothing."""


@dataclass(frozen=True)
class Made:
    """One train split, for flowlab and for the plain way."""

    data: TrainData
    validation: Validation
    windows: Windows
    space: ActionSpace
    raw: Tensor  # (N, H, A); the first windows validate


def make(size: Size, num_windows: int, device: torch.device, num_validation: int = 64) -> Made:
    """Conditions (N, S, D) in fp16 and raw chunks, with knots and densities fitted as for a study."""
    generator = torch.Generator().manual_seed(0)
    condition = torch.randn(num_windows, NUM_TOKENS, size.condition_width, generator=generator).half().to(device)
    raw = chunks(condition[:, 0, :3].float().cpu(), generator).to(device)
    space = fit_action_space(size.recipe.action_space, RAW_CHANNELS, raw)
    density = fit_label_density(space.to_physical(raw))
    data = train_data(condition, raw, space, density)
    validation = validation_data(condition[:num_validation], raw[:num_validation], space, 0)
    windows = Windows(condition.cpu(), data.action.cpu(), maneuver_weights(size.recipe, data))
    return Made(data, validation, windows, space, raw)


def chunks(seen: Tensor, generator: torch.Generator) -> Tensor:
    """Raw chunks (N, H, 3) of three features (N, 3) that a policy sees: where the second is large, it may go left or
    right of what the first asks for; the third is the speed."""
    where, split, speed = seen.T
    side = torch.randint(0, 2, where.shape, generator=generator) * 2.0 - 1.0
    steering = (0.4 * where.tanh() + 0.4 * side * (split.abs() > 0.7))[:, None] * torch.linspace(0.5, 1, HORIZON)
    gas, brake = (speed.clamp_min(0).tanh()[:, None] * torch.ones(HORIZON) for speed in (speed, -speed))
    noise = 0.03 * torch.randn(len(seen), HORIZON, 3, generator=generator)
    low = torch.tensor([0.0, 0.0, -1.0])
    return (torch.stack([gas, brake, steering], dim=-1) + noise).clamp(low, torch.ones(3))


def maneuver_weights(recipe: Recipe, data: TrainData) -> Tensor:
    """(N, M), as a run of that recipe has them."""
    lds = recipe.objective.lds
    return data.density.weights(data.physical, channel_alphas(lds, data.channels), lds.cap, lds.cap_on)


def ignore(run: int, reported: object) -> None:
    """Nobody reads what is reported here."""
    del run, reported


def train(size: Size, made: Made, steps: int) -> Trained:
    """One run of flowlab's, `steps` steps long."""
    return fit(cohort_of(size.recipe, range(1), steps), made.data, made.validation, Listener(ignore, ignore, ignore))


def plain_of(trained: Trained, size: Size, made: Made) -> PlainDecoder:
    """The plain decoder with the weights of a run of flowlab's, ready to be sampled from."""
    _, horizon, num_channels = made.data.action.shape
    plain = PlainDecoder(size.recipe.decoder, horizon, num_channels, size.condition_width, checkpoints=False)
    load_flowlab_weights(plain, run_weights(trained.decoder, 0))
    return plain.to(made.data.condition.device).eval()


def cohort_of(recipe: Recipe, seeds: range, steps: int) -> Cohort:
    """Runs of the recipe at those seeds, cut to so many steps."""
    cut = recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": steps, "sample_every": 0})})
    return Cohort(tuple(Run(f"run-{seed}", "control", seed, cut) for seed in seeds))
