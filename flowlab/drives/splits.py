"""Chooses which whole drives are trained on and which are validated on, and proposes such a choice for a new study."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from flowlab.core.errors import StudyError, unknown_name
from flowlab.core.types import Split
from flowlab.drives.blocks import block_suffix, num_blocks
from flowlab.drives.strata import Stratified, first_of_each, last_of_each, stratified_order
from flowlab.study.split import BlockSettings, SplitSettings
from flowlab.study.versions import PILOT_DRIVES


class Recorded(NamedTuple):
    """A drive that a new study might train or validate on, and how long it is."""

    drive_id: str
    driver: str
    track: str
    task: str
    frames: int


def choose_split(drives: Sequence[Stratified], settings: SplitSettings) -> Split:
    """The split that `settings` mean, each side sorted by name.

    Validation drives are chosen first and from names and strata alone, so no choice of train drives moves them: those
    named by `val`, or the last `num_val` names, or the last names of each stratum (`val_per`). `pilot` is 30 train
    drives, or as many as there are, and the validation drives; `corpus` is every drive; `num_train` another number of
    train drives; `train_per` the first names of each stratum; `overfit` trains and validates on one. Drives named in
    `without` are left out before the train drives are chosen. Raises UnknownNameError for a drive that does not exist,
    StudyError if there are fewer than `num_train` to train on (a pilot takes fewer than 30), or none, or too few of a
    stratum.
    """
    by_id = {drive.drive_id: drive for drive in drives}
    if not by_id:
        raise StudyError("the source holds no drives to split.")
    in_order = [by_id[drive_id] for drive_id in sorted(by_id)]
    val = _choose_val(in_order, settings)
    left_out = _left_out(sorted(by_id), val, settings)
    rest = [drive for drive in in_order if drive.drive_id not in {*val, *left_out}]
    ordered = stratified_order(rest) if settings.choice == "stratified" else [drive.drive_id for drive in rest]
    if settings.scale == "overfit" and ordered:
        return Split(train=(ordered[0],), val=(ordered[0],))
    if settings.train_per is not None and rest:
        return Split(train=first_of_each(rest, settings.train_per), val=val)
    enough = PILOT_DRIVES if settings.scale == "pilot" else len(ordered)
    limit = settings.num_train or enough
    if limit > max(enough, len(ordered)):
        raise StudyError(
            f"split.num_train is {limit}, and {len(ordered)} of {len(by_id)} drives are left to train on. "
            f"Give {len(ordered)} or less, or add drives."
        )
    train = tuple(sorted(ordered[:limit]))
    if not train:
        raise StudyError(
            f"split: {len(val)} of {len(by_id)} drives are for validation at scale {settings.scale!r}, which leaves "
            f"none to train on. Lower num_val, name fewer in val, or add drives."
        )
    return Split(train=train, val=val)


LEAST_VAL, MOST_VAL = Fraction(1, 10), Fraction(7, 20)
"""What share of all frames a new study's validation may be."""


def choose_val_names(facts: Iterable[Recorded]) -> list[str]:
    """Validation drives for a new study, sorted: about a fifth of all frames, and between 0.1 and 0.35 of them wherever
    the lengths allow it; never all drives. One drive that has frames, or none, cannot be split: no list.

    The last drives of strata (driver, track, task) that have several come first, so that validation meets known strata
    on new drives; a stratum's only drive follows if there are too few. Of three drives it is the one nearest to a
    fifth. Where nothing is between 0.1 and 0.35 it is what is nearest to a fifth of what was tried.
    """
    drives = sorted(one for one in facts if one.frames > 0)
    if len(drives) < 2:
        return []
    total = sum(one.frames for one in drives)
    ranked = _last_first(drives)
    single = [min(ranked, key=lambda one: (not is_fitting(one.frames, total), abs(5 * one.frames - total)))]
    spread = _up_to_a_fifth(ranked, total)
    tried = [single, spread] if len(drives) <= 3 else [spread, single]
    fitting = [chosen for chosen in tried if is_fitting(_frames(chosen), total)]
    chosen = fitting[0] if fitting else min(tried, key=lambda chosen: abs(5 * _frames(chosen) - total))
    return sorted(one.drive_id for one in chosen)


NUM_BLOCKS = 10
SHORTEST_BLOCK_S, LONGEST_BLOCK_S = 5, 60
LONGEST_GAP_S = 2.0
VAL_EVERY, FIRST_VAL = 5, 2


def choose_blocks(seconds: float) -> tuple[BlockSettings, list[str]]:
    """How a new study cuts one recording of so many seconds, from its first frame to its last, and which blocks
    validate, as "#002", "#007", ...: what follows the recording's name in their ids.

    There are about ten blocks, of 5 to 60 whole seconds, and a gap of a tenth of a block, at most 2 s. Every fifth
    block validates. Of two blocks it is the last one; a recording that makes one block alone (under 10 s) has none.
    """
    length = min(max(round(seconds / NUM_BLOCKS), SHORTEST_BLOCK_S), LONGEST_BLOCK_S)
    settings = BlockSettings(seconds=float(length), gap_s=min(LONGEST_GAP_S, length / 10))
    num = num_blocks(round(seconds * 1e6), settings)
    val = [number for number in range(num) if number % VAL_EVERY == FIRST_VAL]
    if not val and num == 2:
        val = [1]
    return settings, [block_suffix(number) for number in val]


def _last_first(drives: list[Recorded]) -> list[Recorded]:
    """The drives in the order in which they are taken for validation."""
    strata: dict[tuple[str, str, str], list[Recorded]] = defaultdict(list)
    for one in drives:
        strata[one.driver, one.track, one.task].append(one)
    ranked = [
        (before == 0, len(stratum) - before, one)  # a stratum's first drive is the last to be taken from it
        for stratum in strata.values()
        for before, one in enumerate(stratum)
    ]
    return [one for _, _, one in sorted(ranked)]


def _up_to_a_fifth(ranked: list[Recorded], total: int) -> list[Recorded]:
    """The first drives that each bring the share nearer to a fifth and not above 0.35, until it is 0.18 or more; the
    shortest one where each is longer than that.
    """
    chosen: list[Recorded] = []
    for one in ranked:
        frames = _frames(chosen)
        if 50 * frames >= 9 * total:
            break
        more = frames + one.frames
        if abs(5 * more - total) < abs(5 * frames - total) and more <= MOST_VAL * total:
            chosen.append(one)
    return chosen or [min(ranked, key=lambda one: one.frames)]


def _frames(drives: Sequence[Recorded]) -> int:
    return sum(one.frames for one in drives)


def is_fitting(frames: int, total: int) -> bool:
    """Whether that is a share of all frames that a study may validate on."""
    return LEAST_VAL * total <= frames <= MOST_VAL * total


def _left_out(names: list[str], val: tuple[str, ...], settings: SplitSettings) -> tuple[str, ...]:
    for name in settings.without:
        if name not in names:
            raise unknown_name("drive in split.without", name, names)
        if name in val:
            raise StudyError(
                f"split.without names {name!r}, which validates: only train drives can be left out. Name another one."
            )
    return settings.without


def _choose_val(drives: list[Stratified], settings: SplitSettings) -> tuple[str, ...]:
    """The validation drives among these, which are sorted by name."""
    names = [drive.drive_id for drive in drives]
    if settings.val is not None:
        for name in settings.val:
            if name not in names:
                raise unknown_name("drive in split.val", name, names)
        return tuple(sorted(set(settings.val)))
    if settings.val_per is not None:
        return last_of_each(drives, settings.val_per, settings.without)
    return tuple(names[-settings.num_val :]) if settings.num_val is not None else ()
