"""Training is the published one: schedule, optimiser, losses and dropout together give the weights of a plain loop."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy.build import build_decoder
from flowlab.policy.decoder import run_weights
from flowlab.policy.objectives import Batch
from flowlab.study.recipe import DecoderSettings, Recipe, TrainSettings
from flowlab.train.cohort import Cohort, Run
from flowlab.train.data import Batches, Dropout, TrainData
from flowlab.train.optimiser import CohortAdamW, schedule
from tests.policy.published import PublishedDecoder, transplant
from tests.policy.published_sizes import SMALL, untrained

TRAIN = TrainSettings(batch=8, steps=12, warmup_steps=4, lr=3e-3)
RUN = Run("run", "control", 1001, Recipe(decoder=DecoderSettings(width=16, heads=2, layers=2), train=TRAIN))


def published_share(step: int) -> float:
    """Of the peak learning rate: nothing at step 0, a straight line, half a cosine to nothing."""
    if step < TRAIN.warmup_steps:
        return step / TRAIN.warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - TRAIN.warmup_steps) / (TRAIN.steps - TRAIN.warmup_steps)))


def scheduled(parameters: list) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """torch's own, with the published numbers."""
    adamw = torch.optim.AdamW(parameters, lr=TRAIN.lr, betas=(0.9, 0.95), weight_decay=0.1)
    return adamw, torch.optim.lr_scheduler.LambdaLR(adamw, published_share)


def test_each_step_has_the_learning_rate_of_torchs_scheduler():
    ours = CohortAdamW(untrained(SMALL), [TRAIN])
    adamw, scheduler = scheduled([torch.nn.Parameter(torch.zeros(1))])
    for step in range(TRAIN.steps):
        ours.update(step)
        expected = adamw.param_groups[0]["lr"]
        assert ours.lr.tolist() == pytest.approx([expected], rel=1e-12)
        adamw.step()
        scheduler.step()
    assert schedule(TRAIN.steps, TRAIN) == pytest.approx(0)


def test_the_first_step_changes_nothing_and_the_peak_comes_after_the_warm_up():
    assert [schedule(step, TRAIN) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    decoder = untrained(SMALL)
    before = {name: weight.clone() for name, weight in run_weights(decoder, 0).items()}
    optimiser = CohortAdamW(decoder, [TRAIN])
    optimiser.gradients.fill_(1.0)
    optimiser.update(0)
    assert all(torch.equal(weight, before[name]) for name, weight in run_weights(decoder, 0).items())


class PlainLoop:
    """The control of one run trained as it is described: torch's layers, optimiser, scheduler and clipping.

    It is given flowlab's first weights, batches and masks, and computes the rest.
    """

    def __init__(self, run: Run, data: TrainData) -> None:
        self.settings, cohort, cpu = run.recipe.decoder, Cohort((run,)), torch.device("cpu")
        _, self.tokens, width = data.condition.shape
        _, *chunk = data.action.shape
        spec = ConditionSpec(width, (TokenGroup("tokens", self.tokens),))
        self.sizes = (self.settings.width, self.settings.layers, self.settings.heads, width, *chunk)
        self.batches, self.dropout = Batches(cohort, data), Dropout(cohort, cpu)
        self.module = self.published(run_weights(build_decoder(self.settings, spec, *chunk, (run.seed,), cpu), 0))
        decay, rest = [], []
        for name, parameter in self.module.named_parameters():
            (decay if parameter.ndim > 1 and name != "position" else rest).append(parameter)
        self.adamw, self.scheduler = scheduled([{"params": decay}, {"params": rest, "weight_decay": 0.0}])

    def published(self, weights: dict[str, Tensor]) -> PublishedDecoder:
        module = PublishedDecoder(*self.sizes)
        transplant(weights, module)
        return module

    def step(self, step: int) -> float:
        """The loss of that step, which it then takes."""
        condition, batch = self.batches.at(step)
        self.dropout.step = step
        self.adamw.zero_grad()
        loss = self.loss(condition[0], batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.adamw.step()
        self.scheduler.step()
        return loss.item()

    def loss(self, condition: Tensor, batch: Batch) -> Tensor:
        """Weighted flow matching, and ten times the weighted error of the implied chunk's differences."""
        x0, x1, weight = batch.noise[0], batch.action[0], batch.weight[0][:, None]
        t = batch.time_normal[0].sigmoid()
        along = t[:, None, None]
        xt = (1 - along) * x0 + along * x1
        velocity = self.module(xt, t, condition, self.masks(*x1.shape[:2]))
        differences = (xt + (1 - along) * velocity).diff(dim=1) - x1.diff(dim=1)
        return (weight * (velocity - (x1 - x0)) ** 2).mean() + 10 * (weight * differences**2).mean()

    def masks(self, frames: int, horizon: int) -> dict[int, dict[str, Tensor]]:
        """What flowlab's dropout multiplies by in this step, as the reference takes it."""
        heads, width = self.settings.heads, self.settings.width
        places = {
            "cross.weights": ("cross weights", (frames, heads, horizon, self.tokens)),
            "cross": ("cross residual", (frames, horizon, width)),
            "slots.weights": ("slot weights", (frames, heads, horizon, horizon)),
            "slots": ("slot residual", (frames, horizon, width)),
            "mlp.hidden": ("hidden", (frames, horizon, width)),
        }
        return {
            block: {
                theirs: self.dropout(f"blocks.{block}.{ours}", torch.ones(1, *shape))[0]
                for ours, (theirs, shape) in places.items()
            }
            for block in range(self.settings.layers)
        }


def test_the_control_ends_with_the_weights_of_a_plain_loop(train, data):
    """All but the bias of what cross-attention compares with: it moves all of a softmax, and has no gradient."""
    loop = PlainLoop(RUN, data)
    losses = [loop.step(step) for step in range(TRAIN.steps)]
    outcome = train(RUN)
    told = [row.value for row in outcome.rows[0] if row.metric == "loss"]
    assert told == pytest.approx([losses[5], losses[11]], rel=1e-5)  # at the end of both epochs of six steps
    ours = loop.published(run_weights(outcome.trained.decoder, 0)).named_parameters()
    for (name, found), expected in zip(ours, loop.module.parameters(), strict=True):
        difference = (found - expected).detach().abs()
        if name.endswith("cross.in_proj_bias"):
            difference[16:32] = 0
        assert difference.max() < 3e-5, name


@pytest.mark.parametrize("change", [{"warmup_from_zero": False}, {"weight_decay": 0.0}, {"clip_norm": 1e6}])
def test_with_another_training_they_are_other_weights(train, data, change):
    """So the comparison would not pass without looking at it."""
    loop = PlainLoop(RUN, data)
    for step in range(TRAIN.steps):
        loop.step(step)
    recipe = RUN.recipe.model_copy(update={"train": TRAIN.model_copy(update=change)})
    ours = loop.published(run_weights(train(replace(RUN, recipe=recipe)).trained.decoder, 0))
    assert (ours.condition.weight - loop.module.condition.weight).abs().max() > 1e-4
