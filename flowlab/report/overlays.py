"""Predictions and truth as a page holds them: whole numbers of two bytes in base64, and the camera beside them."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowlab.core.progress import Progress
from flowlab.report.campaign import Campaign
from flowlab.report.pictures import BYTES_EACH, PICTURES_BYTES, Camera
from flowlab.report.predicted import Kept, Predicted, read_predicted

STEPS = 65_000
"""Between the lowest and the highest value of a channel: of steering from -1 to 1 a step is 0.00003."""
NUM_WINDOWS = 12
LONGEST_STEP = 3
"""Times a drive's usual step: a longer one is a gap."""
HISTORY = 6
"""Actions before a window's chunk that are drawn, where the drive has them."""


@dataclass(frozen=True)
class Overlays:
    """What the page reads: `shared` once, and one of `drives` when a reader chooses it. `absent`: why there is none."""

    shared: dict[str, Any]
    drives: list[dict[str, Any]]
    windows: list[dict[str, Any]]
    notes: list[str]
    absent: str = ""


def read_overlays(campaign: Campaign, progress: Progress, kept: Kept) -> Overlays:
    """Slot 1 of each chunk over time by drive and channel, and the windows with the largest maneuvers."""
    found = read_predicted(campaign, progress, kept)
    if isinstance(found, str):
        return Overlays({}, [], [], [], absent=found)
    chunks = [found.truth, *found.runs.values()]
    low = np.min([chunk.min(axis=(0, 1)) for chunk in chunks], axis=0).astype(np.float64)
    high = np.max([chunk.max(axis=(0, 1)) for chunk in chunks], axis=0).astype(np.float64)
    high = np.where(high > low, high, low + 1.0)
    camera = Camera(campaign)
    most = PICTURES_BYTES // BYTES_EACH
    rows_of = [np.flatnonzero(found.drive == number) for number in range(len(found.drive_ids))]
    drives = []
    with progress.task("read camera frames", len(rows_of), "drives") as task:
        for name, rows in zip(found.drive_ids, rows_of, strict=True):
            pictures = camera.of_drive(name, found.now[rows], max(most * len(rows) // len(found.drive), 1))
            drives.append(_drive(found, name, rows, low, high) | {"pictures": pictures and pictures.to_json()})
            task.advance()
    names = {run["run_id"]: run for run in campaign.runs}
    shared = {
        "channels": list(found.channels),
        "readout": found.readout,
        "low": low.tolist(),
        "high": high.tolist(),
        "steps": STEPS,
        "runs": [
            {"id": run_id, "lever": names[run_id]["lever"], "seed": names[run_id]["seed"]} for run_id in found.runs
        ],
        "drives": list(found.drive_ids),
    }
    return Overlays(shared, drives, _windows(campaign, found), [*found.left_out, *camera.notes])


def _drive(found: Predicted, name: str, rows: NDArray[np.int64], low: NDArray, high: NDArray) -> dict[str, Any]:
    """One drive: times in ms since its first frame, and one packed text a channel of the truth and of each run."""
    time_us = found.time_us[rows]

    def packed(chunk: NDArray[np.float32]) -> list[str]:
        share = (chunk[rows, 0].astype(np.float64) - low) / (high - low)
        numbers = (np.rint(share * STEPS) - STEPS // 2).astype("<i2")
        return [_base64(numbers[:, channel]) for channel in range(numbers.shape[1])]

    return {
        "name": name,
        "time": _base64(((time_us - time_us[0]) // 1000).astype("<i4")),
        "frame": _base64(found.now[rows].astype("<i4")),
        "truth": packed(found.truth),
        "runs": [packed(chunk) for chunk in found.runs.values()],
    }


def _base64(numbers: NDArray) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()


def _windows(campaign: Campaign, found: Predicted) -> list[dict[str, Any]]:
    """The windows whose chunk has the largest |action| of the primary channel, none near another of the same drive."""
    names = list(found.channels)
    channel = names.index(campaign.primary.channel) if campaign.primary.channel in names else 0
    size = np.abs(found.truth[:, :, channel]).max(axis=1)
    horizon = found.truth.shape[1]
    chosen: list[int] = []
    for row in np.argsort(-size, kind="stable").tolist():
        is_near = any(found.drive[row] == found.drive[other] and abs(row - other) < 4 * horizon for other in chosen)
        if not is_near:
            chosen.append(row)
        if len(chosen) == NUM_WINDOWS:
            break
    return [_window(found, row, channel) for row in sorted(chosen)]


def _window(found: Predicted, row: int, channel: int) -> dict[str, Any]:
    """One window: the actions up to now, the true chunk, and each run's."""
    begin = row
    while begin > max(row - HISTORY, 0) and _follows(found, begin):
        begin -= 1
    return {
        "drive": int(found.drive[row]),
        "frame": int(found.now[row]),
        "place": int(row - np.searchsorted(found.drive, found.drive[row])),
        "channel": channel,
        "before": found.truth[begin:row, 0, channel].round(4).tolist(),
        "truth": found.truth[row, :, channel].round(4).tolist(),
        "runs": [chunk[row, :, channel].round(4).tolist() for chunk in found.runs.values()],
    }


def _follows(found: Predicted, row: int) -> bool:
    """Whether a frame is the next one of its drive after the frame before it, by the usual step of that drive."""
    same = found.drive == found.drive[row]
    usual = float(np.median(np.diff(found.time_us[same]))) if same.sum() > 1 else 0.0
    step = found.time_us[row] - found.time_us[row - 1]
    return bool(found.drive[row] == found.drive[row - 1] and step <= LONGEST_STEP * usual)
