"""How K draws become one chunk."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import PluginError, UnknownNameError, unknown_name
from flowlab.core.plugins import TABLE, Readout, locate, resolve, told
from flowlab.core.vocabulary import CHUNK_READOUTS
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.guarded import Guarded, require_name
from flowlab.evaluate.mode_readouts import BestDraw, Mode, ModeMedoid, ModeWaypoint, OracleMode
from flowlab.evaluate.modes import blocks
from flowlab.evaluate.voting import Vote, votes
from flowlab.study.selection import SelectionSettings

LADDER = re.compile(r"meank-([1-9][0-9]{0,6})")


@dataclass(frozen=True)
class Single:
    """The first draw."""

    name: str = "single"

    def __call__(self, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float32]:
        del frames
        return draws[:, 0].astype(np.float32)


@dataclass(frozen=True)
class MeanK:
    """The mean of all K draws, summed in float64."""

    name: str = "meank"

    def __call__(self, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float32]:
        del frames
        return draws.mean(axis=1, dtype=np.float64).astype(np.float32)


@dataclass(frozen=True)
class MedianK:
    """The median of all K draws, entry by entry.

    Of all chunks that one could read out of the same draws it has the least expected absolute error, slot by slot, so
    it is what a policy should be compared by with the train median, which has the least of all constants.
    """

    name: str = "mediank"

    def __call__(self, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float32]:
        del frames
        num_draws, shape = draws.shape[1], (len(draws), *draws.shape[2:])
        chunk = np.empty((len(draws), int(np.prod(draws.shape[2:]))), np.float32)
        for rows in blocks(draws):
            ordered = np.ascontiguousarray(draws[rows].reshape(-1, num_draws, chunk.shape[1]).swapaxes(1, 2))
            ordered.sort(axis=2)  # twice as fast as np.median, to the bit
            middle = ordered[..., (num_draws - 1) // 2 : num_draws // 2 + 1].mean(axis=2)
            chunk[rows] = np.where(np.isnan(ordered[..., -1]), np.nan, middle)
        return chunk.reshape(shape)


@dataclass(frozen=True)
class MeanFirst:
    """The mean of the first `num` draws, summed in float64; of all where there are fewer."""

    num: int

    @property
    def name(self) -> str:
        return f"meank-{self.num}"

    def __call__(self, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float32]:
        del frames
        return draws[:, : self.num].mean(axis=1, dtype=np.float64).astype(np.float32)


def build_readout(name: str, selection: SelectionSettings | None = None, clip: bool = False) -> Readout:
    """The readout called `name`: one of flowlab's own, or a plug-in, a class without arguments or an object.

    `selection`: the study's; without it there are neither bounds nor voting, and modes are told by the defaults.
    `clip`: as in `own_readouts`. Raises UnknownNameError with the nearest name, and PluginError for a plug-in that is
    no Readout.
    """
    if found := LADDER.fullmatch(name):
        return MeanFirst(int(found[1]))
    for own in selection_readouts(selection, clip) if selection else ():
        if own.name == name:
            return own
    if ":" not in name and name not in TABLE["readouts"]:
        _require_plugin(name, selection)
    found = resolve("readouts", name)
    try:
        readout = found() if isinstance(found, type) else found
    except (Exception, SystemExit) as error:
        raise PluginError(f"readout {name!r} cannot be built: {told(error)}. Correct it.") from error
    if not isinstance(readout, Readout):
        raise PluginError(
            f"readout {name!r} is {type(readout).__name__}, which is not a Readout: it needs a name and to be called "
            f"as readout(draws, frames). Correct it."
        )
    if name in TABLE["readouts"]:
        return readout
    require_name(name, readout)
    return Guarded(readout)


def _require_plugin(name: str, selection: SelectionSettings | None) -> None:
    """Raises UnknownNameError, with all readouts that there are, unless an entry point has that name."""
    try:
        locate("readouts", name)
    except UnknownNameError:
        own = [one.name for one in selection_readouts(selection)] if selection else []
        raise unknown_name("readout", name, [*TABLE["readouts"], *own, "meank-2"]) from None


def ladder(num_draws: int) -> list[Readout]:
    """`meank-1`, `meank-2`, `meank-4`, ... below K; all K draws are `meank`."""
    return [MeanFirst(2**power) for power in range(num_draws.bit_length()) if 2**power < num_draws]


def mode_readouts(selection: SelectionSettings) -> list[Readout]:
    """The readouts by modes that rules may name."""
    return [Mode(selection), ModeMedoid(selection), ModeWaypoint(selection)]


def selection_readouts(selection: SelectionSettings, clip: bool = False) -> list[Readout]:
    """Everything that is there because draws can be selected: modes, votes of each kind and temperature, and bounds.

    `clip`: a bound compares with the truth what is within the actuators' ranges.
    """
    voted: list[Readout] = [Vote(selection, name) for name in votes(selection)]
    return [*mode_readouts(selection), *voted, OracleMode(selection, clip), BestDraw(selection, clip)]


def own_readouts(selection: SelectionSettings | None, num_draws: int, clip: bool = False) -> list[Readout]:
    """The readouts that every run of `num_draws` draws is scored with, in a fixed order.

    `selection` is the study's, None where the drives do not have its channel. `single-mean` is none of them: it is no
    chunk (see `score_each_draw`).
    """
    plain = [build_readout(name) for name in CHUNK_READOUTS]
    return [*plain, *ladder(num_draws), *(selection_readouts(selection, clip) if selection else ())]
