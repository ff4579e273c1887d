"""flowlab's decoders at the published sizes and at small ones, somewhat trained, beside the published modules."""

import torch
from torch import Tensor

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy.build import build_decoder
from flowlab.policy.decoder import AnyDecoder, run_weights
from flowlab.study.recipe import DecoderSettings
from tests.policy.published import PublishedDecoder, PublishedRegression, transplant

HORIZON, CHANNELS, TOKENS, TOKENS_WIDTH = 6, 2, 12, 384
SPEC = ConditionSpec(TOKENS_WIDTH, (TokenGroup("tokens", TOKENS),))
PUBLISHED = DecoderSettings()
SMALL = DecoderSettings(width=32, heads=2, layers=2)


def untrained(settings: DecoderSettings = PUBLISHED, seeds: tuple[int, ...] = (1,)) -> AnyDecoder:
    """As a run starts."""
    return build_decoder(settings, SPEC, HORIZON, CHANNELS, seeds, torch.device("cpu"))


@torch.no_grad()
def somewhat_trained(settings: DecoderSettings = PUBLISHED, seeds: tuple[int, ...] = (1,)) -> AnyDecoder:
    """As after some steps: nothing is zero any more, so that each weight counts. Flow time matters as much as x_t."""
    decoder = untrained(settings, seeds)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in decoder.named_stacked():
        if ".modulation." in name:
            parameter.uniform_(-(settings.width**-0.5), settings.width**-0.5, generator=generator)
        parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return decoder


def published(decoder: AnyDecoder, settings: DecoderSettings = PUBLISHED) -> PublishedDecoder:
    """The published decoder with the first run's weights."""
    sizes = (settings.width, settings.layers, settings.heads, TOKENS_WIDTH, HORIZON, CHANNELS)
    module = PublishedDecoder(*sizes, rotary=settings.rotary_slots)
    transplant(run_weights(decoder, 0), module)
    return module


def published_regression(decoder: AnyDecoder, settings: DecoderSettings = PUBLISHED) -> PublishedRegression:
    """The published regression with the first run's weights."""
    sizes = (settings.width, settings.layers, settings.heads, TOKENS_WIDTH, HORIZON, CHANNELS)
    module = PublishedRegression(*sizes, rotary=settings.rotary_slots)
    transplant(run_weights(decoder, 0), module)
    return module


def inputs(num_frames: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x_t (B, H, M) and condition (B, S, D), standard normal."""
    generator = torch.Generator().manual_seed(seed)
    xt = torch.randn(num_frames, HORIZON, CHANNELS, generator=generator)
    return xt, torch.randn(num_frames, TOKENS, TOKENS_WIDTH, generator=generator)


def velocity(decoder: AnyDecoder, xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    """What flowlab's decoder of one run says of one draw per frame: (B, H, M) from x_t (B, H, M), t (B,)."""
    return decoder(xt[None, :, None], t[None], decoder.remember(condition[None]))[0, :, 0]
