"""The draft of a first study that fits some recordings: sizes, primary metric, slices, modes, guardrails."""

from dataclasses import replace

from flowlab.core.vocabulary import DEFAULT_CHANNEL, DEFAULT_SLICES, OVERALL
from flowlab.lab.first_choices import (
    USUAL_HZ,
    are_keys,
    by_movement,
    choose_image,
    choose_lead,
    choose_sizes,
    deviation,
    margin_of,
    rounded,
)
from flowlab.lab.first_columns import Columns
from flowlab.lab.first_slices import Sides, Slice, ends_of, has_enough, is_guardable, usual_slices, wider_spikes
from flowlab.lab.recordings_seen import Found
from flowlab.study.draft import CAR_GUARDS, Draft, Guard
from flowlab.study.selection import LARGEST
from flowlab.study.settings import WindowSettings
from flowlab.study.slices import SliceSettings
from flowlab.study.template_tables import Seen, no_slices, selection_table, slice_name, slices_table

MOST_GUARDED = 3
"""Channels beside the primary one that a lever must not spoil."""
BACKBONE_PATCHES, BACKBONE_PATCH = 128, 14
SMALLEST_RANGE = 0.01
"""Below it voting's temperatures would have no digits left."""


def fitted(columns: Columns, found: Found, seen: Seen, sides: Sides, windows: WindowSettings, has_gpu: bool) -> Draft:
    """The draft, its tables [drives] and [split] aside."""
    by_keys = are_keys(found.action)
    lead = choose_lead(found.action, seen.channels)
    sizes = choose_sizes(has_gpu, by_keys, seen.image_size, columns.has_images, len(sides.train), len(sides.val))
    draft = Draft(
        drives="",
        split="",
        sizes=sizes,
        channels=sides.channels,
        lead=lead,
        history=windows.history,
        horizon=windows.horizon,
        max_gap_s=windows.max_gap_s,
        hz=None if seen.usual_hz is None or USUAL_HZ[0] <= seen.usual_hz <= USUAL_HZ[1] else seen.usual_hz,
        by_keys=by_keys,
        in_seconds=columns.settings.source == "lerobot",
        backbone=choose_image(seen.image_size, BACKBONE_PATCHES, BACKBONE_PATCH) if columns.has_images else None,
    )
    return _of_steering(draft, sides) if draft.is_car else _of_another(draft, found, seen, sides)


def _of_steering(draft: Draft, sides: Sides) -> Draft:
    """Steering on sharp turns decides; where flowlab's own slice of them has too few frames, a wider one does."""
    usual = usual_slices(sides)
    guards = [one for one in CAR_GUARDS if one.channel in sides.channels]
    if not is_guardable(usual["flat_frame"], sides):
        guards = [one for one in guards if one.slice != "flat_frame"]
    if has_enough(usual["spike_frame"], sides):
        where = f"{usual['spike_frame'].val:,} validation frames that hold a sharp turn"
        return replace(draft, where=where, guards=tuple(guards))
    wider = wider_spikes(sides)
    if wider is None:
        left = tuple(one for one in guards if (one.channel, one.slice) != (DEFAULT_CHANNEL, OVERALL)) or tuple(guards)
        return replace(draft, slice=OVERALL, where=f"all {len(sides.val):,} validation frames", guards=left)
    bound = wider.settings.size_above
    own = {name: SliceSettings.model_validate(table) for name, table in DEFAULT_SLICES.items()}
    own["spike_frame"] = wider.settings
    own["spike_slot"] = wider.settings.model_copy(update={"slots": "each"})
    told = {"spike_frame": _counts(wider), "flat_frame": _counts(usual["flat_frame"])}
    why = (
        f"Slices: flowlab's own, but that a spike begins at |steering| {bound:g}: of more than 0.5 there are "
        f"{usual['spike_frame'].val} validation frames."
    )
    return replace(
        draft,
        where=f"{wider.val:,} validation frames that hold some |steering| > {bound:g}",
        guards=tuple(guards),
        slices=slices_table(why, {name: (one, told.get(name, "")) for name, one in own.items()}),
    )


def _of_another(draft: Draft, found: Found, seen: Seen, sides: Sides) -> Draft:
    """The channel that tells most decides, over all frames; its ends, and other channels, must not be spoilt."""
    channels, lead = sides.channels, draft.lead
    sds = {name: deviation(found.action[:, place]) for place, name in enumerate(channels)}
    of_lead = seen.channels[channels.index(lead)]
    spread = of_lead.high - of_lead.low
    ends = {slice_name(f"{end}_{lead}"): one for end, one in ends_of(sides, lead).items()}
    guards = [Guard(lead, name, margin_of(sds[lead])) for name in ends]
    others = [name for name in by_movement(found.action, seen.channels) if name != lead and margin_of(sds[name]) > 0]
    guards += [Guard(name, OVERALL, margin_of(sds[name])) for name in others[:MOST_GUARDED]]
    why = f"Slices beside {OVERALL}: the frames of which some slot (any), or each (all), is beyond a number."
    told = {name: (one.settings, _counts(one)) for name, one in ends.items()}
    votes = (rounded(0.01 * spread), rounded(0.05 * spread), rounded(0.025 * spread))
    return replace(
        draft,
        slice=OVERALL,
        where=f"all {len(sides.val):,} validation frames",
        guards=tuple(guards) or (Guard(lead, OVERALL, margin_of(sds[lead])),),
        slices=slices_table(why, told) if told else no_slices(lead),
        selection=selection_table(
            lead, min(rounded(sds[lead] / 2), LARGEST), votes if SMALLEST_RANGE <= spread <= LARGEST else None
        ),
    )


def _counts(one: Slice) -> str:
    return f"{one.share:.0%} of the frames, {one.val:,} in validation"
