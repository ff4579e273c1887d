"""Settings that do nothing because of another setting. Giving one is an error: a flag that does nothing misleads."""

from collections.abc import Iterable, Iterator

from flowlab.core.vocabulary import CHANNEL_RANGES
from flowlab.study.recipe import DecoderSettings, Recipe

OWN_OBJECTIVES = ("flow", "regression")
TRANSFORMER, SLOT_QUERIES = "transformer", "slot-queries"
OWN_DECODERS = (TRANSFORMER, SLOT_QUERIES)
ANY_DECODER = ("kind", "horizon", "image_tokens", "options")
"""What a decoder of whatever kind is bound by; the rest is for flowlab's own."""

OF_FLOW_TIME = ("final_norm", "adaln_silu", "first_wave", "logit_limit", "slot_adaln", "condition_adaln")
SPACE_OF = {
    "knots": ("gaussianize", "gaussianize-dct"),
    "tails": ("gaussianize", "gaussianize-dct"),
    "mu": ("mu-law",),
    "sigma_floor": ("chunk-dct",),
    "relative_floor": ("gaussianize-dct",),
}
"""By setting of the action space: the transforms that look at it."""


def why_unused(
    recipe: Recipe, keys: Iterable[str], slots: int | None = None, channels: tuple[str, ...] | None = None
) -> tuple[str, str] | None:
    """The first of `keys` that does nothing in `recipe`, with the reason; None if all of them count.

    `slots`: how many a chunk of the study has, `channels`: the raw ones of its drives, each where that is known.
    """
    unused = dict(_unused(recipe, slots, channels))
    for key in keys:
        for place, reason in unused.items():
            if key == place or key.startswith(f"{place}."):
                return key, reason
    return None


def _unused(recipe: Recipe, slots: int | None, channels: tuple[str, ...] | None) -> Iterator[tuple[str, str]]:
    """Dotted key (or table) of `recipe`, and why nothing looks at it."""
    objective, decoder, space = recipe.objective, recipe.decoder, recipe.action_space
    if objective.kind in OWN_OBJECTIVES:
        yield "objective.options", f"the objective {objective.kind!r} takes no options"
    if objective.kind == "regression":
        for place in ("objective.flow_time", "objective.coupling"):
            yield place, "a regression has no flow time and no noise"
    for kind, names in {"logit-normal": ("mean", "std"), "beta": ("alpha", "end")}.items():
        if objective.flow_time.kind != kind:
            for name in names:
                yield f"objective.flow_time.{name}", f"only the flow time {kind!r} has it"
    if not objective.lds.alpha and not any(objective.lds.channel_alpha.values()):
        for name in ("cap", "cap_on", "edges"):
            yield f"objective.lds.{name}", "with alpha 0 all weights are 1"
        yield "objective.delta_weighted", "with objective.lds.alpha 0 all weights are 1"
    if not objective.delta_weight:
        yield "objective.delta_weighted", "objective.delta_weight is 0"
    one_slot = 1 in (recipe.decoder.horizon, slots)
    if one_slot or not recipe.slots_in_time:
        for name in ("delta_weight", "delta_weighted"):
            yield f"objective.{name}", "a delta loss needs several slots that follow each other in time"
    if one_slot:
        yield "decoder.rotary_slots", "with one slot there is no distance between slots"
        yield "decoder.rotary_base", "with one slot there is no distance between slots"
    if slots is not None and recipe.decoder.horizon == slots:
        yield "decoder.horizon", f"a chunk has windows.horizon {slots} slots anyway"
    for name, transforms in SPACE_OF.items():
        if space.transform not in transforms:
            yield f"action_space.{name}", f"only the transform {' or '.join(map(repr, transforms))} has it"
    if recipe.evaluation.clip and channels is not None and not set(channels) & set(CHANNEL_RANGES):
        yield "evaluation.clip", f"no actuator range is known of the channels {', '.join(channels)}"
    if not recipe.train.warmup_steps:
        yield "train.warmup_from_zero", "train.warmup_steps is 0"
    if decoder.kind in OWN_DECODERS:
        yield "decoder.options", f"the decoder {decoder.kind!r} takes no options"
        if not decoder.rotary_slots:
            yield "decoder.rotary_base", "decoder.rotary_slots is false"
        if not decoder.dropout:
            yield "decoder.dropout_at", "decoder.dropout is 0"
        for name in OF_FLOW_TIME if decoder.kind == SLOT_QUERIES else ():
            yield f"decoder.{name}", f"the decoder {SLOT_QUERIES!r} has no flow time and none of this"
    else:
        for name in DecoderSettings.model_fields:
            if name not in ANY_DECODER:
                yield f"decoder.{name}", f"the plug-in {decoder.kind!r} has its own settings, in decoder.options"
