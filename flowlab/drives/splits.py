"""Chooses which whole drives are trained on and which are validated on."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from flowlab.core.errors import StudyError, unknown_name
from flowlab.core.types import Split
from flowlab.study.settings import SplitSettings
from flowlab.study.versions import PILOT_DRIVES


class Stratified(Protocol):
    """What a split looks at: a Drive has it, and so has any line of a list of drives."""

    @property
    def drive_id(self) -> str: ...
    @property
    def driver(self) -> str: ...
    @property
    def track(self) -> str: ...


def choose_split(drives: Sequence[Stratified], settings: SplitSettings) -> Split:
    """The split that `settings` mean, each side sorted by name.

    Validation drives are chosen first and from the names alone, so no choice of train drives moves them: those named by
    `val`, or the last `num_val` names. `pilot` is 30 train drives, or as many as there are, and the validation drives;
    `corpus` is every drive; `num_train` another number of train drives; `overfit` trains and validates on one. Drives
    named in `without` are left out before the train drives are chosen. Raises UnknownNameError for a drive that does
    not exist, StudyError if there are fewer than `num_train` to train on (a pilot takes fewer than 30), or none.
    """
    by_id = {drive.drive_id: drive for drive in drives}
    if not by_id:
        raise StudyError("the source holds no drives to split.")
    val = _choose_val(sorted(by_id), settings)
    left_out = _left_out(sorted(by_id), val, settings)
    rest = [by_id[drive_id] for drive_id in sorted(by_id) if drive_id not in val and drive_id not in left_out]
    ordered = stratified_order(rest) if settings.choice == "stratified" else [drive.drive_id for drive in rest]
    if settings.scale == "overfit" and ordered:
        return Split(train=(ordered[0],), val=(ordered[0],))
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


def stratified_order(drives: Sequence[Stratified]) -> list[str]:
    """The drives' names so that any first n of them hold each driver and track equally often, give or take one.

    Strata (one driver on one track) take turns; within a round drivers alternate, so that a short round favours none.
    """
    strata: dict[tuple[str, str], list[str]] = defaultdict(list)
    for drive in sorted(drives, key=lambda drive: drive.drive_id):
        strata[drive.driver, drive.track].append(drive.drive_id)
    tracks: dict[str, list[str]] = defaultdict(list)
    for driver, track in sorted(strata):
        tracks[driver].append(track)
    turns = sorted(strata, key=lambda stratum: (tracks[stratum[0]].index(stratum[1]), stratum[0]))
    rounds = range(max((len(names) for names in strata.values()), default=0))
    return [strata[turn][number] for number in rounds for turn in turns if number < len(strata[turn])]


def _left_out(names: list[str], val: tuple[str, ...], settings: SplitSettings) -> tuple[str, ...]:
    for name in settings.without:
        if name not in names:
            raise unknown_name("drive in split.without", name, names)
        if name in val:
            raise StudyError(
                f"split.without names {name!r}, which validates: only train drives can be left out. Name another one."
            )
    return settings.without


def _choose_val(names: list[str], settings: SplitSettings) -> tuple[str, ...]:
    if settings.val is not None:
        for name in settings.val:
            if name not in names:
                raise unknown_name("drive in split.val", name, names)
        return tuple(sorted(set(settings.val)))
    return tuple(names[-settings.num_val :]) if settings.num_val is not None else ()
