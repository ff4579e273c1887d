"""Random numbers of a study's shapes, for benchmarks whose times do not depend on what the numbers are."""

from dataclasses import dataclass

import torch
from plain import Windows
from torch import Tensor

from flowlab.policy.action_space import fit_action_space
from flowlab.policy.weights import fit_label_density
from flowlab.study.recipe import DecoderSettings, EvaluationSettings, Recipe, TrainSettings
from flowlab.train.cohort import Cohort, Run
from flowlab.train.data import TrainData, channel_alphas, train_data
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


def make(size: Size, num_windows: int, device: torch.device, num_validation: int = 64) -> Made:
    """Conditions (N, S, D) in fp16 and raw chunks, with knots and densities fitted as for a study."""
    generator = torch.Generator().manual_seed(0)
    condition = torch.randn(num_windows, NUM_TOKENS, size.condition_width, generator=generator).half().to(device)
    raw = torch.rand(num_windows, HORIZON, len(RAW_CHANNELS), generator=generator).to(device)
    space = fit_action_space(size.recipe.action_space, RAW_CHANNELS, raw)
    density = fit_label_density(space.to_physical(raw))
    data = train_data(condition, raw, space, density)
    validation = validation_data(condition[:num_validation], raw[:num_validation], space, 0)
    return Made(data, validation, Windows(condition, data.action, maneuver_weights(size.recipe, data)))


def maneuver_weights(recipe: Recipe, data: TrainData) -> Tensor:
    """(N, M), as a run of that recipe has them."""
    lds = recipe.objective.lds
    return data.density.weights(data.physical, channel_alphas(lds, data.channels), lds.cap, lds.cap_on)


def cohort_of(recipe: Recipe, seeds: range, steps: int) -> Cohort:
    """Runs of the recipe at those seeds, cut to so many steps."""
    cut = recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": steps, "sample_every": 0})})
    return Cohort(tuple(Run(f"run-{seed}", "control", seed, cut) for seed in seeds))
