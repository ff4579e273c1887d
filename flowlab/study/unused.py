"""Settings that do nothing because of another setting. Giving one is an error: a flag that does nothing misleads."""

from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from flowlab.study.recipe import DecoderSettings, Recipe

OWN_OBJECTIVES = ("flow", "regression")
OWN_DECODER = "transformer"
ANY_DECODER = ("kind", "horizon", "image_tokens", "options")
"""What a decoder of whatever kind is bound by; the rest is for flowlab's own."""


def why_unused(recipe: Recipe, keys: Iterable[str], slots: int | None = None) -> tuple[str, str] | None:
    """The first of `keys` that does nothing in `recipe`, with the reason; None if all of them count.

    `slots`: how many a chunk of the study has, where that is known.
    """
    unused = dict(_unused(recipe, slots))
    for key in keys:
        for place, reason in unused.items():
            if key == place or key.startswith(f"{place}."):
                return key, reason
    return None


def given_keys(model: BaseModel, prefix: str = "") -> list[str]:
    """The dotted keys that were given and not left at their defaults' place."""
    keys = []
    for name in sorted(model.model_fields_set):
        value = getattr(model, name)
        keys += given_keys(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [f"{prefix}{name}"]
    return keys


def _unused(recipe: Recipe, slots: int | None) -> Iterator[tuple[str, str]]:
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
        yield "objective.lds.cap", "with alpha 0 all weights are 1"
    one_slot = 1 in (recipe.decoder.horizon, slots)
    if one_slot or not recipe.slots_in_time:
        yield "objective.delta_weight", "a delta loss needs several slots that follow each other in time"
    if one_slot:
        yield "decoder.rotary_slots", "with one slot there is no distance between slots"
        yield "decoder.rotary_base", "with one slot there is no distance between slots"
    if slots is not None and recipe.decoder.horizon == slots:
        yield "decoder.horizon", f"a chunk has windows.horizon {slots} slots anyway"
    for name, transform in {"knots": "gaussianize", "mu": "mu-law", "sigma_floor": "chunk-dct"}.items():
        if space.transform != transform:
            yield f"action_space.{name}", f"only the transform {transform!r} has it"
    if decoder.kind == OWN_DECODER:
        yield "decoder.options", f"the decoder {OWN_DECODER!r} takes no options"
        if not decoder.rotary_slots:
            yield "decoder.rotary_base", "decoder.rotary_slots is false"
    else:
        for name in DecoderSettings.model_fields:
            if name not in ANY_DECODER:
                yield f"decoder.{name}", f"the plug-in {decoder.kind!r} has its own settings, in decoder.options"
