"""A new study: experiments.toml written from a draft, commented so that its format can be learnt from it."""

import os
import re
from dataclasses import asdict
from pathlib import Path

from flowlab.core.errors import StudyError
from flowlab.core.files import write_atomic
from flowlab.core.vocabulary import MERGED_FROM
from flowlab.study.document import FILE_NAME, parse_document
from flowlab.study.draft import Draft
from flowlab.study.study import Study, build_study
from flowlab.study.template_texts import (
    BACKBONE,
    CLIMB,
    CLIMB_IN_SIGMA,
    CONTROL,
    DELTA_OFF,
    DEPTH_2,
    ENCODER,
    GUARDS,
    HEAD,
    KEYBOARD,
    KEYS,
    LDS_OFF,
    LEVERS,
    LR_HALF,
    NO_MERGE,
    PUBLISHED,
    RANKER,
    SELECTION,
    SLICES,
    STANDARDISE,
    TREE,
    WINDOWS,
    XAVIER,
)


def require_free(folder: Path) -> None:
    """Raises StudyError if `folder` holds a study already."""
    if os.path.lexists(folder / FILE_NAME):
        raise StudyError(f"{folder} holds an {FILE_NAME} already. Name another folder, or move that file away.")


def draft_study(folder: Path, draft: Draft, name: str | None = None) -> tuple[str, Study]:
    """The text of an experiments.toml to stand in `folder`, and the study that it means; writes nothing.

    `name` is the study's, by default its folder's. Raises StudyError for a name that cannot be one.
    """
    text = study_text(name or kebab(folder.resolve().name), draft)
    return text, build_study(folder, parse_document(text))


def write_study(folder: Path, text: str) -> Path:
    """The path of that experiments.toml in `folder`, which is made if need be. Raises StudyError if it cannot be."""
    require_free(folder)
    path = folder / FILE_NAME
    try:
        write_atomic(path, text.encode())
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror}.") from None
    return path


def study_text(name: str, draft: Draft) -> str:
    """The text of an experiments.toml."""
    head = HEAD.format(
        name=quoted(name),
        lead=draft.lead,
        where=draft.where,
        of_draws="median" if draft.by_keys else "mean",
        primary=_number(draft, draft.lead, draft.slice),
    )
    parts = (head, draft.drives, draft.split, _windows(draft), _encoder(draft), draft.slices or SLICES)
    levers = _levers(draft)
    last = (draft.selection or SELECTION, RANKER, _control(draft), levers, _rule(draft), _tree(levers))
    return "".join((*parts, *last))


def _number(draft: Draft, channel: str, slice_name: str) -> str:
    return f'metric = "l1", channel = {quoted(channel)}, slice = "{slice_name}", readout = "{draft.readout}"'


def _windows(draft: Draft) -> str:
    about = history = horizon = ""
    if draft.hz is not None:
        seconds = [f"{frames / draft.hz:.2g}" for frames in (draft.history, draft.horizon)]
        same = f"; history_s = {seconds[0]} and horizon_s = {seconds[1]} mean the same" if draft.in_seconds else ""
        about = f"  # at {draft.hz:.3g} frames a second{same}"
        history, horizon = f": {seconds[0]} s", f": {seconds[1]} s"
    return WINDOWS.format(
        about=about,
        history=f"{draft.history}  # frames up to now that the encoder sees{history}",
        horizon=f"{draft.horizon}  # slots of the chunk that the policy predicts{horizon}",
        max_gap_s=f"{draft.max_gap_s:g}",
    )


def _encoder(draft: Draft) -> str:
    return ENCODER.format(**asdict(draft.sizes))


def _control(draft: Draft) -> str:
    merges = set(MERGED_FROM) <= set(draft.channels)
    return CONTROL.format(
        why=(KEYBOARD if draft.is_car else KEYS) if draft.by_keys else "",
        delta_weight=1.0 if draft.by_keys else 10.0,
        lds_alpha=0.0 if draft.by_keys else 0.5,
        init=XAVIER if draft.by_keys else "",
        space="" if merges else NO_MERGE,
        **asdict(draft.sizes),
    )


def _levers(draft: Draft) -> str:
    """A first set of levers, each of which changes something here."""
    moves = "sharp turns" if draft.is_car else "quick moves"
    levers = [DELTA_OFF.format(moves=moves), PUBLISHED if draft.by_keys else _lds_off(draft)]
    levers += [LR_HALF.format(half_lr=draft.sizes.lr / 2), DEPTH_2]
    if not draft.is_car:
        levers.append(STANDARDISE)
    if draft.backbone is not None:
        levers.append(BACKBONE.format(height=draft.backbone[0], width=draft.backbone[1]))
    return LEVERS + "\n".join(levers) + "\n"


def _lds_off(draft: Draft) -> str:
    between = "on the road between than it earns in turns" if draft.is_car else "between them than it earns in them"
    return LDS_OFF.format(what="maneuvers" if draft.is_car else "moves", between=between)


def _rule(draft: Draft) -> str:
    listed = "".join(
        f"    {{ {_number(draft, guard.channel, guard.slice)}, margin = {guard.margin:g} }},\n"
        for guard in draft.guards
    )
    return (CLIMB if draft.is_car else CLIMB_IN_SIGMA) + GUARDS.format(
        of_margins="" if draft.is_car else "\n# Here a margin is about 1% of the channel's standard deviation.",
        guards=listed,
    )


def _tree(levers: str) -> str:
    """One phase with all the levers of this text, and a selection."""
    names = re.findall(r"^\[levers\.([^\].]+)\]", levers, re.MULTILINE)
    return TREE.format(levers=", ".join(quoted(name) for name in names))


def kebab(text: str) -> str:
    """`text` as a name of small letters and digits joined by hyphens; "study" if nothing of it is left."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:64].strip("-") or "study"


def quoted(text: str) -> str:
    """`text` as a TOML string. Raises StudyError for a file name that is not text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise StudyError(f"the name {os.fsencode(text)!r} is not UTF-8 text. Rename it.") from None
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\u{ord(found[0]):04x}", escaped) + '"'


def key_of(name: str) -> str:
    """`name` as a key of TOML, bare where it can be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quoted(name)
