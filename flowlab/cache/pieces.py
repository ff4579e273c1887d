"""What a build has finished: one file for each drive, so that a build that was killed goes on with the next one."""

from dataclasses import dataclass
from pathlib import Path

import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from flowlab.core.digest import digest_bytes, digest_json
from flowlab.core.files import write_atomic

Rows = dict[str, NDArray]
"""Array name -> its rows for one drive."""

FRAMES = "frames"
"""The array of a piece that no cache holds: a digest of each of the drive's images, (F,) int64."""

DIGEST_BYTES = 16


@dataclass(frozen=True)
class Pieces:
    """The pieces of one build. A file is named by a digest of the drive's id: any two ids have two files."""

    folder: Path

    def write(self, drive_id: str, piece: Rows) -> None:
        """Keep the piece, whole or not at all."""
        content = safetensors.numpy.save(piece)
        write_atomic(self._path(drive_id), _digest(drive_id, content) + content)

    def read(self, drive_id: str) -> Rows | None:
        """The piece of that drive, or None if there is none, or its bytes are not those that were written."""
        try:
            content = self._path(drive_id).read_bytes()
            own, content = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
            return safetensors.numpy.load(content) if own == _digest(drive_id, content) else None
        except (OSError, SafetensorError):
            return None

    def _path(self, drive_id: str) -> Path:
        return self.folder / f"{digest_json(drive_id)}.piece"


def _digest(drive_id: str, content: bytes) -> bytes:
    return digest_bytes(drive_id.encode("utf-8", "surrogatepass"), content).encode()
