"""Strata: drives that agree in driver, track or task. A split may take the same number from each."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from flowlab.core.errors import StudyError
from flowlab.study.split import PerStratum

MOST_NAMED = 3
"""Strata that a message names; the others are counted."""


class Stratified(Protocol):
    """What a split looks at: a Drive has it, and so has any line of a list of drives."""

    @property
    def drive_id(self) -> str: ...
    @property
    def driver(self) -> str: ...
    @property
    def track(self) -> str: ...
    @property
    def task(self) -> str: ...


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


def last_of_each(drives: list[Stratified], per: PerStratum, without: tuple[str, ...]) -> tuple[str, ...]:
    """The last `num` names of each stratum. Raises StudyError if that leaves none of a stratum to train on.

    A stratum of which all drives are in `without` is no stratum.
    """
    strata = _strata(drives, per, "val_per")
    counted = {name: names for name, names in strata.items() if not set(names) <= set(without)}
    if not counted:
        raise StudyError("split.val_per finds no stratum, since split.without names all drives of each. Name fewer.")
    few = {name: len(names) for name, names in counted.items() if len(names) <= per.num}
    if few:
        raise StudyError(
            f"split.val_per takes {per.num} of each {_told(per)}, and there are too few of {_listed(few)}: one more "
            f"than {per.num} has to be there, to train on. Lower its num, choose others in its by, or name "
            f"those drives in split.without."
        )
    return tuple(sorted(name for names in counted.values() for name in names[-per.num :]))


def first_of_each(rest: list[Stratified], per: PerStratum) -> tuple[str, ...]:
    """The first `num` names of each stratum that `rest` has. Raises StudyError where one has fewer."""
    strata = _strata(rest, per, "train_per")
    few = {name: len(names) for name, names in strata.items() if len(names) < per.num}
    if few:
        raise StudyError(
            f"split.train_per takes {per.num} of each {_told(per)}, and fewer are left to train on of {_listed(few)}. "
            f"Lower its num, choose others in its by, or name those drives in split.without."
        )
    return tuple(sorted(name for names in strata.values() for name in names[: per.num]))


def _strata(drives: list[Stratified], per: PerStratum, key: str) -> dict[tuple[str, ...], list[str]]:
    """The names of the drives of each stratum, in the drives' order.

    A drive that does not say all of `by` (one that cannot be read says nothing) is of none. Raises StudyError if all
    are so.
    """
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for drive in drives:
        stratum = tuple(str(getattr(drive, name)) for name in per.by)
        if all(stratum):
            strata[stratum].append(drive.drive_id)
    if not strata:
        raise StudyError(
            f"split.{key} goes by {_told(per)}, and no drive says its {_told(per)}. Choose others in its by, "
            f"or use {'num_val' if key == 'val_per' else 'num_train'}."
        )
    return strata


def _told(per: PerStratum) -> str:
    return " and ".join(per.by)


def _listed(counts: dict[tuple[str, ...], int]) -> str:
    """The first strata with the number of their drives: "'lake' (1), 'jungle' (2) and 4 more"."""
    shown = [f"{', '.join(map(repr, name))} ({counts[name]})" for name in sorted(counts)[:MOST_NAMED]]
    more = f" and {len(counts) - MOST_NAMED} more" if len(counts) > MOST_NAMED else ""
    return ", ".join(shown) + more
