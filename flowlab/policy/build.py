"""From settings to the decoder and the objective of a cohort: flowlab's own by name, or a plug-in."""

from collections.abc import Sequence

import torch

from flowlab.core.errors import PluginError, StudyError
from flowlab.core.plugins import resolve, told
from flowlab.core.types import ConditionSpec
from flowlab.core.vocabulary import IMAGE_TOKENS
from flowlab.policy.arithmetic import require_products
from flowlab.policy.decoder import AnyDecoder, Decoder, initialise, token_range
from flowlab.policy.foreign import ForeignDecoder
from flowlab.policy.objectives import Objective
from flowlab.policy.slot_queries import SlotQueries
from flowlab.study.recipe import DecoderSettings, Recipe


def build_objective(recipes: Sequence[Recipe], horizon: int, device: torch.device) -> Objective:
    """The objective of R runs of one kind, for chunks of `horizon` slots.

    Raises UnknownNameError for a plug-in that cannot be loaded, PluginError for one that cannot be built.
    """
    first = recipes[0]
    make = resolve("objectives", first.objective.kind)
    settings = [recipe.objective for recipe in recipes]
    try:
        return make(settings, first.slots_in_time and horizon > 1, device)
    except (Exception, SystemExit) as error:
        raise PluginError(f"objective {first.objective.kind!r} cannot be built: {told(error)}. Correct it.") from error


def build_decoder(
    settings: DecoderSettings,
    spec: ConditionSpec,
    horizon: int,
    num_channels: int,
    seeds: Sequence[int],
    device: torch.device,
) -> AnyDecoder:
    """R decoders of one shape on `device`, each initialised from its own seed. `spec` is what they see."""
    make = resolve("decoders", settings.kind)
    if make not in (Decoder, SlotQueries):
        return ForeignDecoder(make, settings, spec, horizon, num_channels, seeds).to(device)
    decoder: Decoder | SlotQueries = make(len(seeds), settings, horizon, num_channels, spec)
    initialise(decoder, seeds)
    return decoder.to(device)


def require_decoder(settings: DecoderSettings, spec: ConditionSpec, horizon: int, num_channels: int) -> None:
    """Raises as `build_decoder` does. A decoder of our own is made for no runs at all, which takes no memory."""
    make = resolve("decoders", settings.kind)
    if make not in (Decoder, SlotQueries):
        build_decoder(settings, spec, horizon, num_channels, [0, 1], torch.device("cpu"))
        return
    make(0, settings, horizon, num_channels, spec)


def require_arithmetic(recipe: Recipe, device: torch.device) -> None:
    """Raises StudyError for numbers that the device, or a decoder that is a plug-in, does not compute in."""
    own = resolve("decoders", recipe.decoder.kind) in (Decoder, SlotQueries)
    for key in ("train", "evaluation"):
        arithmetic = getattr(recipe, key).arithmetic
        require_products(f"{key}.arithmetic", arithmetic, device)
        if arithmetic == "bfloat16" and not own:
            raise StudyError(
                f"{key}.arithmetic is bfloat16, which is for flowlab's own decoders, and decoder.kind is "
                f"{recipe.decoder.kind!r}. Set it to float32, or to tf32 on a GPU."
            )


def seen_tokens(settings: DecoderSettings, spec: ConditionSpec) -> tuple[ConditionSpec, list[int]]:
    """What a decoder sees of a condition, and which of its S tokens: all groups, the image's only if it asks for them.

    Raises CacheMismatchError when it asks for image tokens and `spec` has none.
    """
    if settings.image_tokens:
        token_range(spec, IMAGE_TOKENS)
        return spec, list(range(spec.num_tokens))
    groups = tuple(group for group in spec.groups if group.name != IMAGE_TOKENS)
    return ConditionSpec(spec.width, groups), [i for group in groups for i in token_range(spec, group.name)]
