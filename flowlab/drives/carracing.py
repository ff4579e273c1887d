"""Drives recorded from Gymnasium's CarRacing-v3 by a scripted driver; kept as one file each in caches/drives.

Steering is -1 (full left) to +1 (full right), as in the simulator. What a frame's action and units mean: recording.py.
"""

import importlib.util
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowlab.core.digest import digest_json
from flowlab.core.errors import DriveError, FlowlabError, MissingError, unknown_name
from flowlab.core.files import stamp_of
from flowlab.core.locks import hold
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import Drive
from flowlab.core.vocabulary import CHANNELS
from flowlab.drives.memo import read_memo, settled_stamps, write_memo
from flowlab.drives.parallel import num_cores
from flowlab.drives.picture import to_rgb_array
from flowlab.drives.recording import IMAGE_HEIGHT, IMAGE_WIDTH, Recording, read_recording, record_drive, write_recording
from flowlab.study.settings import CarRacingDrives

RECORDER_VERSION = 1
"""Raise it whenever the same settings would give other frames: old recordings are then left alone and not used."""


class CarRacingSource:
    """What `record` has written. `images` are the simulator's view from above, 84 x 96 before they are resized."""

    channels = CHANNELS
    has_waypoints = True

    def __init__(self, settings: CarRacingDrives, folder: Path) -> None:
        self._settings = settings
        self._folder = recordings_folder(settings, folder)
        self._latest: tuple[str, Recording] | None = None

    def drive_ids(self) -> list[str]:
        """drive_00, drive_01, ... Raises DriveError as long as one of them is not recorded."""
        wanted = planned_drives(self._settings)
        missing = [drive_id for drive_id in wanted if not _path(self._folder, drive_id).is_file()]
        if missing:
            raise DriveError(f"{len(missing)} of {len(wanted)} drives are not recorded yet: flowlab drives record")
        return sorted(wanted)

    def load(self, drive_id: str) -> Drive:
        """One drive without its images; `driver` is the driver's style, `track` the seed of the track."""
        recording = self._recording(drive_id)
        return Drive(
            drive_id=drive_id,
            channels=CHANNELS,
            frame_index=np.arange(len(recording.time_us), dtype=np.int64),
            time_us=recording.time_us,
            speed_mps=recording.speed_mps,
            action=recording.action,
            waypoints=recording.waypoints,
            driver=recording.driver,
            track=recording.track,
            image_size=(IMAGE_HEIGHT, IMAGE_WIDTH),
        )

    def images(self, drive: Drive, rows: NDArray[np.int64], height: int, width: int) -> NDArray[np.uint8]:
        """RGB (len(rows), height, width, 3)."""
        chosen = self._recording(drive.drive_id).images[rows]
        if chosen.shape[1:3] == (height, width):
            return chosen
        resized = np.empty((len(chosen), height, width, 3), np.uint8)
        for row, image in enumerate(chosen):
            resized[row] = to_rgb_array(Image.fromarray(image), height, width)
        return resized

    def digest(self, drive_id: str) -> str:
        """16 hex digits over the frames and what was driven; from its file's stamp if that has not changed."""
        path, memo = _path(self._folder, drive_id), self._folder / f"{drive_id}.digest.json"
        kept = read_memo(memo)
        if kept is not None and kept["file"] == stamp_of(path):
            return str(kept["digest"])
        file = settled_stamps([path])[0]
        self._latest = None  # of a file that may have changed since
        digest = self._recording(drive_id).digest()
        write_memo(memo, {"file": file, "digest": digest})
        return digest

    def _recording(self, drive_id: str) -> Recording:
        """The drive from its file; the latest one is kept, since images are asked for in batches (11 MB a minute of 10
        Hz).
        """
        if self._latest is None or self._latest[0] != drive_id:
            planned = planned_drives(self._settings)
            if drive_id not in planned:
                raise unknown_name("drive", drive_id, planned)
            path = _path(self._folder, drive_id)
            if not path.is_file():
                raise DriveError(f"{drive_id} is not recorded yet: flowlab drives record")
            self._latest = (drive_id, read_recording(path))
        return self._latest[1]


def planned_drives(settings: CarRacingDrives) -> dict[str, int]:
    """The number of each drive by its id. Known before anything is recorded."""
    return {f"drive_{number:02d}": number for number in range(settings.count)}


def recordings_folder(settings: CarRacingDrives, root: Path) -> Path:
    """Where drives with these settings are kept. `count` is no part of the name: raising it records only new ones."""
    content = {"version": RECORDER_VERSION} | settings.model_dump(mode="json", exclude={"count"})
    return root / "caches" / "drives" / f"carracing-{digest_json(content)}"


def record(settings: CarRacingDrives, root: Path, progress: Progress = SILENT) -> list[str]:
    """Record the drives that are missing, in parallel; returns their ids. A finished drive survives whatever comes
    after.

    Raises MissingError if the simulator is not installed.
    """
    folder = recordings_folder(settings, root)
    missing = [item for item in planned_drives(settings).items() if not _path(folder, item[0]).is_file()]
    if not missing:
        return []
    for package in ("gymnasium", "Box2D", "pygame"):
        if importlib.util.find_spec(package) is None:
            raise MissingError(f"recording needs {package}, which is not installed: pip install 'flowlab[sim]'")
    folder.mkdir(parents=True, exist_ok=True)
    told = f"waiting for another flowlab process, which records drives into {folder}"
    with hold(folder / "record.lock", tell=lambda: progress.say(told)):
        missing = [item for item in missing if not _path(folder, item[0]).is_file()]
        return _record(settings, folder, missing, progress) if missing else []


def _record(settings: CarRacingDrives, folder: Path, missing: list[tuple[str, int]], progress: Progress) -> list[str]:
    """Record these drives, each by its id and number; returns their ids."""
    with progress.task("record drives", len(missing), "drives") as task, _workers(len(missing)) as pool:
        waiting = {pool.submit(_record_one, settings, number, _path(folder, drive_id)) for drive_id, number in missing}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                task.advance()
    return [drive_id for drive_id, _ in missing]


def _path(folder: Path, drive_id: str) -> Path:
    return folder / f"{drive_id}.npz"


def _record_one(settings: CarRacingDrives, number: int, path: Path) -> None:
    write_recording(path, record_drive(settings.seed, number, settings.seconds, settings.hz))


@contextmanager
def _workers(num_drives: int) -> Iterator[ProcessPoolExecutor]:
    """Processes started afresh: a fork would copy the locks of a torch that is at work."""
    pool = ProcessPoolExecutor(
        max_workers=min(max(2, num_cores()), num_drives),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare_worker,
    )
    try:
        yield pool
    except BrokenProcessPool:
        raise FlowlabError(
            "a recording process was ended from outside; finished drives are kept. Go on: flowlab drives record"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    """No window, no banner on stdout, and no life of its own once the command that started it is gone."""
    os.environ["SDL_VIDEODRIVER"] = "dummy"
    os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
