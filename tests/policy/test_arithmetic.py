"""float32, tf32 and bfloat16: which products are computed in which numbers, and what that does to velocities."""

import pytest
import torch

from flowlab.core.errors import StudyError
from flowlab.policy import sampler
from flowlab.policy.arithmetic import decoder_in, products_in, require_products
from flowlab.policy.build import require_arithmetic
from flowlab.policy.decoder import AnyDecoder
from flowlab.policy.slot_queries import SlotQueries
from flowlab.study.recipe import DecoderSettings, Recipe
from tests.policy.test_sampler import CHANNELS, HORIZON, SETTINGS, SPEC, asked, decoder_of, inputs
from tests.train.tape import Tape

CPU = torch.device("cpu")
PRODUCTS = ("::mm", "::bmm", "::addmm", "::baddbmm", "::addmm_", "::baddbmm_", "attention_for_cpu")


def velocity_of(decoder: AnyDecoder) -> torch.Tensor:
    condition, noise = inputs(3, 2)
    return decoder(noise, torch.full((1, 3), 0.3), decoder.remember(condition))


def product_types(program) -> set[torch.dtype]:
    """Of the tensors that are multiplied as matrices in a program and its gradient."""
    with Tape() as tape:
        program()
    multiplied = [args for operation, args, *_ in tape.noted if operation.name().split(".")[0].endswith(PRODUCTS)]
    assert multiplied
    return {one.dtype for args in multiplied for one in args if isinstance(one, torch.Tensor)}


@pytest.mark.parametrize("arithmetic", ["float32", "tf32"])
def test_in_these_the_decoder_is_the_one_that_is_trained(arithmetic):
    decoder = decoder_of(1)
    assert decoder_in(arithmetic, decoder) is decoder
    assert product_types(lambda: velocity_of(decoder).sum().backward()) == {torch.float32}


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_in_bfloat16_every_product_is_and_every_vector_is_not(changes):
    decoder = decoder_of(1, **changes)
    before = {name: weight.clone() for name, weight in decoder.named_parameters()}
    rounded = decoder_in("bfloat16", decoder)
    for name, parameter in rounded.named_stacked():
        assert parameter.dtype == (torch.bfloat16 if parameter.decays else torch.float32), name
        assert torch.equal(parameter, before[name].to(parameter.dtype))
    assert all(torch.equal(before[name], weight) for name, weight in decoder.named_parameters())
    assert product_types(lambda: velocity_of(rounded).sum().backward()) == {torch.bfloat16}


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_a_velocity_in_bfloat16_is_off_by_its_rounding(changes):
    """A number of 7 bits of mantissa is off by 0.4% at most; a few dozen roundings lie one after the other."""
    decoder = decoder_of(1, **changes)
    exact, rounded = velocity_of(decoder), velocity_of(decoder_in("bfloat16", decoder))
    assert rounded.dtype == torch.float32
    error = (rounded - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert 1e-4 < error < 0.03


def test_slot_queries_too():
    queries = SlotQueries(1, DecoderSettings(width=32, heads=2, layers=2, kind="slot-queries"), HORIZON, CHANNELS, SPEC)
    with torch.no_grad():
        for parameter in queries.parameters():
            parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(1))
    rounded = decoder_in("bfloat16", queries)
    assert product_types(lambda: velocity_of(rounded).sum().backward()) == {torch.bfloat16}
    assert velocity_of(rounded).dtype == torch.float32
    assert torch.allclose(velocity_of(rounded), velocity_of(queries), atol=0.05)


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
@torch.no_grad()
def test_the_sampler_rounds_no_more_than_the_decoder_does(changes):
    decoder = decoder_of(1, **changes)
    rounded = decoder_in("bfloat16", decoder)
    condition, noise = inputs(3, 16)
    exact = asked(decoder, decoder.remember(condition), noise, "heun", 2)
    memory = rounded.remember(condition)
    by_decoder, by_sampler = asked(rounded, memory, noise, "heun", 2), sampler.sample(rounded, memory, noise, "heun", 2)
    assert by_sampler.dtype == torch.float32
    off = [(each - exact).abs().mean() for each in (by_decoder, by_sampler)]
    assert 0 < off[1] < 1.5 * off[0]
    assert product_types(lambda: sampler.sample(rounded, memory, noise, "heun", 1)) == {torch.bfloat16}


def test_what_a_gpu_is_told_lasts_as_long_as_it_is_asked():
    products = torch.backends.cuda.matmul
    before = products.fp32_precision, products.allow_bf16_reduced_precision_reduction
    with products_in("float32"):
        assert products.fp32_precision == "ieee"
        with pytest.raises(KeyError), products_in("tf32"):
            assert products.fp32_precision == "tf32"
            assert not products.allow_bf16_reduced_precision_reduction
            raise KeyError
        assert products.fp32_precision == "ieee"
    assert (products.fp32_precision, products.allow_bf16_reduced_precision_reduction) == before


def test_tf32_is_refused_where_there_is_no_gpu():
    with pytest.raises(StudyError, match=r"^train.arithmetic is tf32, which only a GPU has, and this is a CPU. Give"):
        require_arithmetic(Recipe.model_validate({"train": {"arithmetic": "tf32"}}), CPU)
    with pytest.raises(StudyError, match=r"^evaluation.arithmetic is tf32"):
        require_arithmetic(Recipe.model_validate({"evaluation": {"arithmetic": "tf32"}}), CPU)
    for arithmetic in ("float32", "bfloat16"):
        require_products("train.arithmetic", arithmetic, CPU)


def test_bfloat16_is_refused_for_a_plug_in():
    plug_in = {"kind": "tests.policy.mlp_decoder:MLPDecoder"}
    with pytest.raises(StudyError, match=r"train.arithmetic is bfloat16, which is for flowlab's own decoders"):
        require_arithmetic(Recipe.model_validate({"decoder": plug_in, "train": {"arithmetic": "bfloat16"}}), CPU)
    require_arithmetic(Recipe.model_validate({"decoder": plug_in}), CPU)
