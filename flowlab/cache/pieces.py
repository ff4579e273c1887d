"""What a build has finished: one file for each drive, so that a build that was killed goes on with the next one."""

from dataclasses import dataclass, field

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from flowlab.core.digest import digest_json, fast_digest
from flowlab.core.stores import Place, store_at

Rows = dict[str, NDArray]
"""Array name -> its rows for one drive."""

FRAMES = "frames"
"""The array of a piece that no cache holds: a digest of each of the drive's images, (F,) int64."""

DIGEST_BYTES = len(fast_digest())


@dataclass(frozen=True)
class Pieces:
    """The pieces of one build. A file is named by a digest of the drive's id: any two ids have two files."""

    place: Place

    def write(self, drive_id: str, piece: Rows) -> Rows:
        """Keep the piece, whole or not at all, and return the one that is kept: another builder may have been first.

        All builders of a cache make it from the same pieces, so that it has one content, whoever writes which part.
        """
        content = safetensors.numpy.save(piece)
        content, store = _digest(drive_id, content) + content, store_at(self.place)
        if store.put_new(_key(drive_id), content):
            return piece
        kept = self.read(drive_id)
        if kept is None:  # what is there is damaged
            store.put(_key(drive_id), content)
        return piece if kept is None else kept

    def read(self, drive_id: str) -> Rows | None:
        """The piece of that drive, or None if there is none, or its bytes are not those that were written."""
        try:
            content = store_at(self.place).read(_key(drive_id))
            own, content = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
            return safetensors.numpy.load(content) if own == _digest(drive_id, content) else None
        except (OSError, SafetensorError):
            return None


@dataclass
class Encoded:
    """What the pieces of a build hold: dropped windows by the field at fault, and kept windows and images by drive."""

    dropped: dict[str, int] = field(default_factory=dict)
    num_windows: dict[str, int] = field(default_factory=dict)
    frames: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, drive_id: str, piece: Rows) -> None:
        self.frames[drive_id] = piece[FRAMES]
        self.num_windows[drive_id] = len(piece["action"])
        for name in (key for key in piece if key.startswith("dropped.")):
            at_fault = name.removeprefix("dropped.")
            self.dropped[at_fault] = self.dropped.get(at_fault, 0) + int(piece[name][0])


def _key(drive_id: str) -> str:
    return f"{digest_json(drive_id)}.piece"


def _digest(drive_id: str, content: bytes) -> bytes:
    return fast_digest(drive_id.encode("utf-8", "surrogatepass"), content).encode()
