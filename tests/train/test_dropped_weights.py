"""With dropout in attention weights a run has the bits that it has alone, whatever the shapes and the other rates."""

import pytest
import torch
from torch import Tensor

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy.build import build_decoder
from flowlab.policy.decoder import AnyDecoder, load_run_weights, run_weights
from flowlab.study.recipe import DecoderSettings, Recipe
from flowlab.train.cohort import Cohort, Run
from flowlab.train.data import Dropout

CPU = torch.device("cpu")
SPEC = ConditionSpec(12, (TokenGroup("tokens", 5),))
SEEDS, RATES = (1, 2, 1), (0.0, 0.1, 0.5)
HEADS = {8: 2, 12: 2, 20: 5, 64: 4}  # by width


def cohort(settings: DecoderSettings, *runs: int) -> Cohort:
    """The runs of those numbers, each at its rate."""
    recipes = [Recipe(decoder=settings.model_copy(update={"dropout": RATES[run]})) for run in runs]
    return Cohort(tuple(Run("r", "lever", SEEDS[run], recipe) for run, recipe in zip(runs, recipes, strict=True)))


def moved(settings: DecoderSettings, horizon: int) -> AnyDecoder:
    """All three runs, every entry moved from its start, so that flow time matters too."""
    decoder = build_decoder(settings, SPEC, horizon, 2, SEEDS, CPU)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in decoder.named_stacked():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return decoder


def answer(decoder: AnyDecoder, dropout: Dropout, inputs: list[Tensor]) -> Tensor:
    """The velocity; the gradients of its mean square are left at the parameters."""
    xt, t, condition = inputs
    velocity = decoder(xt, t, decoder.remember(condition), dropout)
    velocity.square().mean(dim=(1, 2, 3, 4)).sum().backward()
    return velocity.detach()


def check(settings: DecoderSettings, batch: int, horizon: int) -> None:
    together = moved(settings, horizon)
    generator = torch.Generator().manual_seed(6)
    shapes = ((batch, 1, horizon, 2), (batch,), (batch, SPEC.num_tokens, SPEC.width))
    inputs = [torch.rand(3, *shape, generator=generator) for shape in shapes]
    velocity = answer(together, Dropout(cohort(settings, 0, 1, 2), CPU), inputs)
    for run, seed in enumerate(SEEDS):
        alone = build_decoder(settings, SPEC, horizon, 2, [seed], CPU)
        load_run_weights(alone, 0, run_weights(together, run))
        own = answer(alone, Dropout(cohort(settings, run), CPU), [x[run : run + 1].clone() for x in inputs])
        assert torch.equal(own[0], velocity[run])
        for (name, one), (_, of) in zip(alone.named_stacked(), together.named_stacked(), strict=True):
            assert (one.grad is None) == (of.grad is None), name
            assert one.grad is None or torch.equal(one.grad[0], of.grad[run]), name


@pytest.mark.parametrize("width", HEADS)
@pytest.mark.parametrize("batch", [1, 7, 33, 128])
@pytest.mark.parametrize("horizon", [1, 2, 5, 6])
def test_a_run_in_a_cohort_has_its_bits_alone(width: int, batch: int, horizon: int) -> None:
    check(DecoderSettings(width=width, heads=HEADS[width], layers=1), batch, horizon)


@pytest.mark.parametrize("changes", [{"rotary_slots": False}, {"gate": "silu"}, {"dropout_at": "residuals"}])
@pytest.mark.parametrize(("width", "batch", "horizon"), [(12, 7, 5), (64, 1, 1), (64, 1, 6)])
def test_so_it_has_with_one_of_the_decoder_s_settings_as_it_was(
    changes: dict, width: int, batch: int, horizon: int
) -> None:
    check(DecoderSettings(width=width, heads=HEADS[width], layers=1, **changes), batch, horizon)


@pytest.mark.parametrize(("width", "batch", "horizon"), [(8, 7, 6), (12, 33, 5), (64, 1, 1), (64, 1, 6)])
def test_so_has_the_trunk_of_slot_queries(width: int, batch: int, horizon: int) -> None:
    check(DecoderSettings(kind="slot-queries", width=width, heads=HEADS[width], layers=1), batch, horizon)
