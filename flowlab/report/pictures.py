"""What the camera saw, small: a drive's frames as contact sheets, each one JPEG that a page cuts pieces from."""

import base64
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowlab.core.errors import FlowlabError
from flowlab.core.plugins import Source
from flowlab.report.campaign import Campaign

HEIGHT = 64
PICTURES_BYTES = 5_000_000
BYTES_EACH = 2_700
"""A picture's share of a page, as text: what 64 x 128 pixels of a road take at most."""
COLUMNS, ROWS = 8, 10
"""Of one sheet."""
QUALITY = 50

Fault = (FlowlabError, OSError, ImportError)


@dataclass(frozen=True, eq=False)
class Pictures:
    """The camera of one drive. Picture n is of the frame at place `places[n]`; sheets hold COLUMNS x ROWS each."""

    height: int
    width: int
    places: NDArray[np.int64]
    sheets: list[str]  # data URIs

    def to_json(self) -> dict[str, Any]:
        return {
            "height": self.height,
            "width": self.width,
            "columns": COLUMNS,
            "rows": ROWS,
            "places": self.places.tolist(),
            "sheets": self.sheets,
        }


class Camera:
    """The study's recordings, opened once. What cannot be had is told once, in `notes`."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.notes: list[str] = []
        self._manifest: dict[str, str] = {}
        self._source: Source | None = None
        try:
            self._source = self._open()
        except Fault as error:
            self.notes.append(f"Camera frames are not shown: {_sentence(error)}")

    def _open(self) -> Source:
        from flowlab.drives.source import open_source

        inputs = self.campaign.study.file_setup.inputs
        for row in self.campaign.ask("select identity_json from caches order by entry"):
            self._manifest |= json.loads(row["identity_json"]).get("manifest", {})
        return open_source(inputs.drives, self.campaign.study.root, inputs.split.blocks)

    def of_drive(self, drive_id: str, frame_index: NDArray[np.int64], most: int) -> Pictures | None:
        """Every n-th of these frames, `most` at most; None where the recording is gone or not what was cached."""
        if self._source is None or not len(frame_index):
            return None
        try:
            return self._read(self._source, drive_id, frame_index, most)
        except Fault as error:
            self.notes.append(f"{drive_id}: its camera frames are not shown: {_sentence(error)}")
            return None

    def _read(self, source: Source, drive_id: str, frame_index: NDArray[np.int64], most: int) -> Pictures | None:
        drive = source.load(drive_id)
        places = np.arange(0, len(frame_index), max(-(-len(frame_index) // max(most, 1)), 1))
        rows = np.searchsorted(drive.frame_index, frame_index[places]).clip(max=len(drive) - 1)
        is_same = np.array_equal(drive.frame_index[rows], frame_index[places])
        if not is_same or source.digest(drive_id) != self._manifest.get(drive_id):
            self.notes.append(
                f"{drive_id}: the recording is not the one that was cached, and its frames are not shown."
            )
            return None
        height, width = self._size(drive.image_size)
        sheets, varies = [], False
        for start in range(0, len(rows), COLUMNS * ROWS):
            images = source.images(drive, rows[start : start + COLUMNS * ROWS], height, width)
            varies = varies or bool(np.ptp(images) > 0)
            sheets.append(_sheet(images))
        return Pictures(height, width, places, sheets) if varies else None

    def _size(self, recorded: tuple[int, int] | None) -> tuple[int, int]:
        """Height and width of a picture: the recording's shape, else that of what the encoder sees."""
        encoder = self.campaign.study.file_setup.inputs.encoder
        seen = (getattr(encoder, "image_height", None) or HEIGHT, getattr(encoder, "image_width", None) or HEIGHT)
        height, width = recorded or seen
        shown = min(HEIGHT, height)
        return shown, max(round(width * shown / height), 8)


def _sheet(images: NDArray[np.uint8]) -> str:
    """Images (n, height, width, 3) side by side, row after row, as the data URI of one JPEG."""
    num, height, width, _ = images.shape
    num_rows = -(-num // COLUMNS)
    whole = np.zeros((num_rows * COLUMNS, height, width, 3), np.uint8)
    whole[:num] = images
    grid = whole.reshape(num_rows, COLUMNS, height, width, 3).swapaxes(1, 2)
    file = io.BytesIO()
    Image.fromarray(grid.reshape(num_rows * height, COLUMNS * width, 3)).save(file, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _sentence(error: BaseException) -> str:
    told = str(error)
    return told if told.endswith(".") else f"{told}."
