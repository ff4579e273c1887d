"""A readout of somebody else's, held to what the protocol promises: what it breaks would be in the ledger otherwise."""

import re
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import FlowlabError, PluginError
from flowlab.core.plugins import Readout, told
from flowlab.core.vocabulary import is_bound
from flowlab.evaluate.frames import ValidationFrames

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Guarded:
    """The same readout. It sees draws and frames that it cannot change, and is asked twice.

    Raises PluginError for a result of another shape, with numbers that are not finite, or another one the second time.
    """

    readout: Readout

    @property
    def name(self) -> str:
        return self.readout.name

    def __call__(self, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float32]:
        chunk = self._ask(draws, frames)
        if not np.array_equal(chunk, self._ask(draws, frames), equal_nan=True):
            raise PluginError(
                f"readout {self.name!r} gives other chunks when it is asked again, so nobody could check its numbers. "
                f"Let it draw nothing at random: a stream of its own with a fixed seed will do."
            )
        if np.isfinite(draws).all() and not np.isfinite(chunk).all():
            bad = int((~np.isfinite(chunk)).any(axis=(1, 2)).sum())
            raise PluginError(
                f"readout {self.name!r} gives numbers that are not finite on {bad} of {len(chunk)} frames, of draws "
                f"that are. Correct it."
            )
        return chunk

    def _ask(self, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float32]:
        try:
            chunk = np.array(self.readout(_shut(draws), shut_frames(frames)), dtype=np.float32)
        except FlowlabError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"readout {self.name!r} fails on draws {draws.shape}: {told(error)}. It may change neither draws nor "
                f"frames, and gives an array {frames.truth.shape}. Correct it."
            ) from error
        if chunk.shape != frames.truth.shape:
            raise PluginError(
                f"readout {self.name!r} gave an array {chunk.shape}, expected {frames.truth.shape}: (frames, slots, "
                f"channels). Correct it."
            )
        return chunk


def require_name(given: str, readout: Readout) -> None:
    """Raises PluginError for a readout whose name metric rows cannot have."""
    if not isinstance(readout.name, str) or not NAME.fullmatch(readout.name):
        raise PluginError(
            f"readout {given!r} has the name {readout.name!r}, expected up to 64 letters, digits, _ and -. Rename it."
        )


def looks_at_truth(
    readout: Readout, draws: NDArray[np.float32], frames: ValidationFrames, chunk: NDArray[np.float32]
) -> bool:
    """Whether a readout, which gave that chunk (N, H, A), chooses by the truth.

    Of flowlab's own their names tell; others are given another truth.
    """
    if not isinstance(readout, Guarded):
        return is_bound(readout.name)
    other = replace(frames, truth=-frames.truth - 1)
    return not np.array_equal(chunk, readout(draws, other), equal_nan=True)


def _shut(array: NDArray) -> NDArray:
    """The same numbers, which nobody can change by this array."""
    shut = array.view()
    shut.flags.writeable = False
    return shut


def shut_frames(frames: ValidationFrames) -> ValidationFrames:
    """The same frames with arrays that cannot be changed, and a condition of their own."""
    arrays = {one.name: getattr(frames, one.name) for one in fields(frames)}
    shut: dict[str, Any] = {name: _shut(value) for name, value in arrays.items() if isinstance(value, np.ndarray)}
    return replace(frames, **shut, condition=frames.condition.clone())
