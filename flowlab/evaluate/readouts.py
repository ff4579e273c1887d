"""How K draws become one chunk."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import PluginError
from flowlab.core.plugins import Readout, resolve, told
from flowlab.core.vocabulary import CHUNK_READOUTS
from flowlab.evaluate.frames import ValidationFrames


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
        return np.median(draws, axis=1).astype(np.float32)


def build_readout(name: str) -> Readout:
    """The readout called `name`: one of flowlab's own, or a plug-in, a class without arguments or an object.

    Raises UnknownNameError with the nearest name, and PluginError for a plug-in that is no Readout.
    """
    found = resolve("readouts", name)
    try:
        readout = found() if isinstance(found, type) else found
    except Exception as error:
        raise PluginError(f"readout {name!r} cannot be built: {told(error)}. Correct it.") from error
    if not isinstance(readout, Readout) or not isinstance(readout.name, str):
        raise PluginError(
            f"readout {name!r} is {type(readout).__name__}, which is not a Readout: it needs a name and to be called "
            f"as readout(draws, frames). Correct it."
        )
    return readout


def own_readouts() -> list[Readout]:
    """The readouts that every run is scored with, in a fixed order; rules may name them.

    `single-mean` is none of them: it is no chunk (see `score_each_draw`).
    """
    return [build_readout(name) for name in CHUNK_READOUTS]
