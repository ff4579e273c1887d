"""What another tracker says of its runs, before flowlab has a word for it."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

FINISHED, CRASHED, UNFINISHED = "finished", "crashed", "unfinished"
LAST_US = 253_402_300_799_999_999
"""The end of the year 9999, in microseconds since 1970: what a time of a run may be at most."""


class Points(NamedTuple):
    """The numbers of one run: by key, and there by step, in rising order; the last one where a step has several.

    `left_out` counts what is not there, by key and reason. Values may be NaN or infinite. `last` has the last value of
    a key where that is none of `values`: it stands at no whole step, or it was left out and nobody knows it (None).
    """

    values: dict[str, dict[int, float]]
    left_out: Counter[tuple[str, str]]
    last: dict[str, float | None]


@dataclass(frozen=True)
class ForeignRun:
    """One run of another tracker. `label` is what its lever is named after: its name, a param or a tag."""

    run_id: str
    name: str
    label: str | None  # None: it lacks the param or tag that was asked for
    status: str
    said: str  # the status in the tracker's own word
    params: dict[str, Any]  # with the seed, if there is one
    keys: tuple[str, ...]  # of its metrics
    read: Callable[[], Points] = field(repr=False)
    started_us: int | None = None  # both from 0 to LAST_US
    ended_us: int | None = None
    tags: tuple[str, ...] = ()  # taxonomy:value


@dataclass(frozen=True)
class Foreign:
    """The runs of one experiment, in the order in which they started."""

    tool: str
    file_name: str
    experiment: str
    identity: dict[str, Any]  # the same for every copy and every later state of that experiment
    runs: list[ForeignRun]
    notes: list[str] = field(default_factory=list)  # what was left out already
    are_recipes_known: bool = True  # whether the tracker wrote down what the runs' settings were
    seed_from: str | None = None  # the param that is the seed, if somebody said so
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)  # keys whose parts the file itself tells
    parents: list[str] = field(
        default_factory=list
    )  # names of runs that were left out, since others are nested in them


def flat(params: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting with its name; one within another has the names of both, joined by a dot."""
    for key, value in params.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
