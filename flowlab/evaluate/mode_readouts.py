"""Readouts by the modes of [selection], and the two bounds: what the best choice among modes, or draws, would give."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowlab.core.vocabulary import BOUNDS, MODE_READOUTS
from flowlab.evaluate.cloud import Cloud
from flowlab.evaluate.frames import ValidationFrames
from flowlab.study.selection import SelectionSettings

MODE, MEDOID, WAYPOINT = MODE_READOUTS
ORACLE_MODE, BEST_DRAW = BOUNDS
DEFAULTS = SelectionSettings()


@dataclass(frozen=True)
class Mode:
    """The mean of the draws of the larger mode; of all draws where there is one."""

    settings: SelectionSettings = DEFAULTS
    name: str = MODE

    def __call__(self, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float32]:
        return Cloud(draws, frames, self.settings).mode()


@dataclass(frozen=True)
class ModeMedoid:
    """The draw of the larger mode that is nearest to its mean, by the squared distance over all slots and channels."""

    settings: SelectionSettings = DEFAULTS
    name: str = MEDOID

    def __call__(self, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float32]:
        return Cloud(draws, frames, self.settings).medoid()


@dataclass(frozen=True)
class ModeWaypoint:
    """The mean of the mode that agrees with the route; the larger one where there are no waypoints."""

    settings: SelectionSettings = DEFAULTS
    name: str = WAYPOINT

    def __call__(self, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float32]:
        return Cloud(draws, frames, self.settings).waypoint()


@dataclass(frozen=True)
class OracleMode:
    """A bound: the mean of the mode that is nearer to the truth. With `clip` what is within the actuators counts."""

    settings: SelectionSettings = DEFAULTS
    clip: bool = False
    name: str = ORACLE_MODE

    def __call__(self, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float32]:
        return Cloud(draws, frames, self.settings, self.clip).oracle_mode()


@dataclass(frozen=True)
class BestDraw:
    """A bound: the draw that is nearest to the truth. With `clip` what is within the actuators counts."""

    settings: SelectionSettings = DEFAULTS
    clip: bool = False
    name: str = BEST_DRAW

    def __call__(self, draws: NDArray[np.float32], frames: ValidationFrames) -> NDArray[np.float32]:
        return Cloud(draws, frames, self.settings, self.clip).best_draw()
