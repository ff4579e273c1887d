"""A small study's inputs: two train drives of 1300 and 900 frames, two chunks and a piece, and one to validate."""

from flowlab.core.types import Split
from flowlab.core.vocabulary import VARIANTS
from flowlab.study.settings import WindowSettings
from tests.encoder.memory_source import MemorySource, numbered_drive

__all__ = ["SPLIT", "VARIANTS", "WINDOWS", "three_drives"]

SPLIT = Split(train=("b", "a"), val=("c",))
WINDOWS = WindowSettings(history=3, horizon=2)


def three_drives() -> MemorySource:
    return MemorySource([numbered_drive("a", 900, seed=1), numbered_drive("b", 1300), numbered_drive("c", 50, seed=2)])
