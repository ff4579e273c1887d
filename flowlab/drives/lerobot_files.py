"""What a LeRobot data set promises: its episodes, and in which files their rows and frames are.

v2.1 has one parquet and one video an episode and lists them in meta/episodes.jsonl; v3.0 has many episodes in a file
and says in meta/episodes/*/*.parquet where in it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flowlab.core.errors import DriveError, told_by
from flowlab.core.files import LFS_POINTER
from flowlab.study.lerobot import INFO, LeRobotInfo

MOST_EPISODES = 2_000_000
"""More than any data set has: what is above it is no number of episodes."""

MOST = 10**9
"""Above any number, place, length or second of an episode."""


class EpisodeFault(Exception):
    """Why one episode cannot be used. `reason` is the same text for all that fail in one way."""

    def __init__(self, reason: str, told: str) -> None:
        super().__init__(reason, told)
        self.reason, self.told = reason, told


@dataclass(frozen=True)
class VideoPart:
    """Where the frames of an episode are: in a video, from a second on; to a second, where meta says so."""

    path: Path
    from_s: float = 0.0
    to_s: float | None = None
    is_whole: bool = False  # the video is of this episode alone


@dataclass(frozen=True)
class Episode:
    """One episode as meta tells it."""

    number: int
    length: int | None
    tasks: tuple[str, ...]
    rows: Path  # the parquet that holds its rows
    video: VideoPart | None
    driver: str = ""
    track: str = ""


@dataclass(frozen=True)
class EpisodeList:
    """The episodes that meta names, by number; how many info.json promises; what of meta could not be read."""

    named: dict[int, Episode]
    promised: int
    unread: list[str] = field(default_factory=list)
    faults: dict[int, EpisodeFault] = field(default_factory=dict)  # of those that meta names and says too little of

    def numbers(self) -> list[int]:
        """Every episode that is named or promised."""
        return sorted({*self.named, *self.faults, *range(self.promised)})

    def find(self, number: int) -> Episode:
        """The episode. Raises EpisodeFault for one that is promised and not named, or not so that it can be used."""
        if number in self.faults:
            raise self.faults[number]
        if number not in self.named:
            why = f" ({self.unread[0]})" if self.unread else ""
            raise EpisodeFault(
                "meta does not name the episode",
                f"{INFO} promises {self.promised} episodes, and this one is not among those that meta lists{why}. "
                f"Fetch meta once more.",
            )
        return self.named[number]


def undecodable(frame: int, path: Path, why: str) -> EpisodeFault:
    """The fault of an episode with a frame that is there and cannot be decoded."""
    return EpisodeFault(
        "a frame cannot be decoded", f"frame {frame} cannot be decoded from {path} ({why}). Fetch the file once more."
    )


def require_file(path: Path, what: str) -> None:
    """Raises EpisodeFault if the file is not there, or is only a pointer to it."""
    if not path.is_file():
        raise EpisodeFault(f"{what} is missing", f"its {what} {path} is not there. Fetch the data set once more.")
    try:
        with path.open("rb") as file:
            head = file.read(len(LFS_POINTER))
    except OSError as error:
        raise EpisodeFault(f"{what} cannot be read", f"its {what} {path} cannot be read ({error.strerror}).") from None
    if head == LFS_POINTER:
        raise EpisodeFault(
            f"{what} is a Git LFS pointer",
            f"its {what} {path} is a Git LFS pointer, not the file itself. Fetch the files: git lfs pull",
        )


def read_episodes(root: Path, info: LeRobotInfo, camera: str | None) -> EpisodeList:
    """The episodes; with `camera`, a column of videos, also where their frames are.

    Raises DriveError if no episode is named at all.
    """
    promised = info.tables.get("total_episodes", 0)
    if not isinstance(promised, int) or not 0 <= promised <= MOST_EPISODES:
        raise DriveError(f"{root / INFO} has total_episodes {promised!r}, which is no number of episodes. Correct it.")
    unread: list[str] = []
    lines = _lines_v21(root, unread) if info.version == "v2.1" else _lines_v30(root, camera, unread)
    named, faults = {}, {}
    for line in lines:
        number = _whole(line.get("episode_index"))
        if number is None:
            unread.append(f"a line of meta has episode_index {line.get('episode_index')!r}")
            continue
        try:
            named[number] = _episode(root, info, camera, number, line)
        except EpisodeFault as fault:
            faults[number] = fault
    if not named and not faults:
        why = unread[0] if unread else "it lists none"
        raise DriveError(f"{root / 'meta'} names no episode: {why}. Fetch meta once more (with Git LFS: git lfs pull).")
    return EpisodeList(named, promised, unread, faults)


def _lines_v21(root: Path, unread: list[str]) -> Iterator[dict[str, Any]]:
    path = root / "meta" / "episodes.jsonl"
    try:
        texts = path.read_text(errors="replace").splitlines()
    except OSError as error:
        unread.append(f"{path}: {error.strerror}")
        return
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict):
            yield line
        else:
            unread.append(f"line {number} of {path} is no table")


def _lines_v30(root: Path, camera: str | None, unread: list[str]) -> Iterator[dict[str, Any]]:
    folder = root / "meta" / "episodes"
    wanted = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index", "driver", "track"]
    if camera is not None:
        names = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
        wanted += [f"videos/{camera}/{name}" for name in names]
    paths = sorted(folder.glob("*/*.parquet"))
    if not paths:
        unread.append(f"{folder} holds no parquet")
    for path in paths:
        try:
            require_file(path, "list of episodes")
            file = pq.ParquetFile(path)
            lines = file.read([name for name in wanted if name in file.schema_arrow.names]).to_pylist()
        except EpisodeFault as fault:
            unread.append(f"{path}: {fault.reason}")
        except (pa.ArrowException, OSError, ValueError) as error:
            unread.append(f"{path} cannot be read: {told_by(error)}")
        else:
            yield from lines


def _episode(root: Path, info: LeRobotInfo, camera: str | None, number: int, line: dict[str, Any]) -> Episode:
    chunks_size = info.tables.get("chunks_size")
    size = chunks_size if isinstance(chunks_size, int) and chunks_size > 0 else 1000
    keys: dict[str, Any] = {"episode_index": number, "episode_chunk": number // size}
    rows = _path(root, info, "data_path", keys | _places(line, "data", info, "data_path"))
    video = None
    if camera is not None:
        told = _places(line, f"videos/{camera}", info, "video_path")
        path = _path(root, info, "video_path", keys | told | {"video_key": camera})
        if info.version == "v2.1":
            video = VideoPart(path, is_whole=True)
        else:
            begin, end = (f"videos/{camera}/{name}_timestamp" for name in ("from", "to"))
            to_s = None if line.get(end) is None else _seconds(line, end)
            video = VideoPart(path, _seconds(line, begin), to_s)
    tasks = line.get("tasks")
    return Episode(
        number,
        _whole(line.get("length")),
        tuple(map(str, tasks)) if isinstance(tasks, list) else (),
        rows,
        video,
        *(str(line.get(name) or "") for name in ("driver", "track")),
    )


def _whole(value: Any) -> int | None:
    """A whole number from 0 on, None for anything else. A NaN in a column makes floats of the others: 3.0 is 3."""
    return int(value) if _is_number(value) and value == int(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MOST


def _places(line: dict[str, Any], of: str, info: LeRobotInfo, pattern: str) -> dict[str, int]:
    """Those of chunk_index and file_index that the pattern asks for. Raises EpisodeFault for one that is no number."""
    places = {}
    for name in ("chunk_index", "file_index"):
        if f"{{{name}" in str(info.tables.get(pattern)) and info.version != "v2.1":
            place = _whole(line.get(f"{of}/{name}"))
            if place is None:
                what = "file of rows" if of == "data" else "video"
                raise EpisodeFault(f"meta names no {what}", _says(line, f"{of}/{name}", "a whole number from 0 on"))
            places[name] = place
    return places


def _seconds(line: dict[str, Any], name: str) -> float:
    """Never taken as 0 where it is missing: those are the frames of another episode. Raises EpisodeFault."""
    value: Any = line.get(name)
    if not _is_number(value):
        raise EpisodeFault("meta does not say where its frames are", _says(line, name, "a number of seconds"))
    return float(value)


def _says(line: dict[str, Any], name: str, expected: str) -> str:
    return f"meta/episodes has {name} {line.get(name)!r:.80} for it, expected {expected}. Fetch meta once more."


def _path(root: Path, info: LeRobotInfo, name: str, keys: dict[str, Any]) -> Path:
    """A file of the data set by its pattern in info.json."""
    pattern = info.tables.get(name)
    try:
        return root / str(pattern).format(**keys)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise DriveError(
            f"{root / INFO} has {name} {pattern!r}, which gives no path for an episode with "
            f"{', '.join(f'{key} {value}' for key, value in keys.items())} ({told_by(error)}). Fetch it once more."
        ) from None
