"""The frames of an episode, from a video that may hold those of many."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowlab.core.digest import digest_json
from flowlab.drives.lerobot_files import Episode, EpisodeFault, VideoPart, require_file, undecodable
from flowlab.drives.lerobot_rows import OFF_FRAMES
from flowlab.drives.parallel import for_each
from flowlab.drives.picture import to_rgb_array
from flowlab.drives.video import UndecodableFrameError, VideoReader
from flowlab.drives.video_index import UnreadableVideoError, VideoIndex, read_index, remember

if TYPE_CHECKING:
    import av

HALF = 0.5
"""Of a frame: how far the seconds of meta may be off; with more they are those of another frame."""


class VideoFrames:
    """Frames of videos: frame k of an episode is the k-th one after that at the second where the episode begins."""

    def __init__(self, fps: float, memos: Path) -> None:
        self._fps = fps
        self._memos = memos
        self._index: tuple[Path, VideoIndex] | None = None
        self._reader: VideoReader | None = None
        self._one_at_a_time = Lock()

    def require(self, episode: Episode, rows: NDArray[np.int64]) -> tuple[str, ...]:
        """What is to be noted. Raises EpisodeFault if the video lacks frames of it, or has them at other times."""
        part, index, first = self._find(episode, len(rows))
        there = len(index.shown) - first if part.is_whole else len(rows)
        if part.to_s is not None:
            there = round((part.to_s - part.from_s) * self._fps)
        if there < len(rows) + 2:
            return ()
        return (
            f"its video has {there} frames and it has {len(rows)} rows: frames are used from the first on, which is "
            f"wrong if rows were lost",
        )

    def digest(self, episode: Episode, rows: NDArray[np.int64]) -> str:
        """16 hex digits over the packets that the frames are decoded from."""
        _, index, first = self._find(episode, len(rows))
        return index.digest(first, len(rows))

    def read(
        self, episode: Episode, rows: NDArray[np.int64], frames: NDArray[np.int64], height: int, width: int
    ) -> NDArray[np.uint8]:
        """RGB (len(frames), height, width, 3). Raises EpisodeFault for one that cannot be decoded."""
        images = np.empty((len(frames), height, width, 3), np.uint8)
        with self._one_at_a_time:
            part, index, first = self._find(episode, len(rows))
            wanted, slots = np.unique(frames + first, return_inverse=True)

            def paint(place: int, frame: "av.VideoFrame") -> None:
                image = frame.to_ndarray(format="rgb24")
                if image.shape[:2] != (height, width):
                    image = to_rgb_array(Image.fromarray(image), height, width)
                images[slots == np.searchsorted(wanted, place)] = image

            try:
                for_each(self._open(part.path, index).read(wanted.tolist()), paint)
            except UnreadableVideoError as error:
                raise _cannot_be_opened(part.path, error) from None
            except UndecodableFrameError as error:
                index.undecodable[error.place] = error.why
                remember(part.path, self._memo(part.path), index)
                raise undecodable(error.place - first, part.path, error.why) from None
        return images

    def _find(self, episode: Episode, num: int) -> tuple[VideoPart, VideoIndex, int]:
        """The episode's video, what is in it, and the place of the first frame there. Raises EpisodeFault."""
        part = episode.video
        if part is None:
            raise EpisodeFault("meta names no video", "meta does not say in which video it is. Fetch meta once more.")
        index = self._index_of(part.path)
        first = int(np.abs(index.seconds - part.from_s).argmin()) if len(index.shown) else 0
        there = len(index.shown) - first
        if part.to_s is not None:
            there = min(there, round((part.to_s - part.from_s) * self._fps))
        if there < num:
            raise EpisodeFault(
                "video is shorter than its rows",
                f"its video {part.path} has {max(there, 0)} frames from {part.from_s:g} s on that are its own, and it "
                f"has {num} rows. Fetch the file once more, or record the episode again.",
            )
        expected = part.from_s + np.arange(num) / self._fps
        off = np.abs(index.seconds[first : first + num] - expected) * self._fps
        wrong = np.flatnonzero(off > OFF_FRAMES)
        if len(wrong):
            frame = int(wrong[0])
            raise EpisodeFault(
                "time stamps of the video do not fit the fps",
                f"frame {frame} is at {index.seconds[first + frame]:.3f} s of its video {part.path}, expected "
                f"{expected[frame]:.3f} s at {self._fps:g} fps ({len(wrong)} of {num} frames are off). Record it "
                f"again, or correct fps in meta/info.json.",
            )
        for place, why in index.undecodable.items():
            if first <= place < first + num:
                raise undecodable(place - first, part.path, why)
        return part, index, first

    def _index_of(self, path: Path) -> VideoIndex:
        kept = self._index
        if kept is None or kept[0] != path:
            require_file(path, "video")
            try:
                kept = self._index = path, read_index(path, self._memo(path))
            except UnreadableVideoError as error:
                raise _cannot_be_opened(path, error) from None
        return kept[1]

    def _open(self, path: Path, index: VideoIndex) -> VideoReader:
        """The reader of that video; the one that read last, if it is of this one, goes on where it is."""
        if self._reader is None or self._reader.path != path:
            if self._reader is not None:
                self._reader.close()
            self._reader = VideoReader(path, index)
        return self._reader

    def _memo(self, path: Path) -> Path:
        return self._memos / f"{digest_json(str(path.resolve()))}.json"


def _cannot_be_opened(path: Path, error: UnreadableVideoError) -> EpisodeFault:
    return EpisodeFault(
        "video cannot be opened", f"its video {path} cannot be opened ({error}). Fetch the file once more."
    )


def shared_frames(episodes: Iterable[Episode], fps: float) -> dict[int, EpisodeFault]:
    """By number, the faults of those that begin before another one in the same video has ended.

    One of the two has the other's frames. It is the one that has more seconds than rows; where that is neither, or
    both, nothing tells which.
    """
    faults: dict[int, EpisodeFault] = {}
    last: _Span | None = None  # of those before in the same video, the one that ends last
    for span in sorted(_spans(episodes, fps)):
        if last is not None and last.path == span.path and span.begin_s < last.end_s - HALF / fps:
            for one, other in ((span, last), (last, span)):
                if one.fits and not other.fits:
                    continue
                told = f"meta/episodes gives frames of {one.path} to it and to episode {other.number}"
                reason = "meta gives its frames to another episode as well"
                if not one.fits:
                    told += ", and more of them than it has rows, so which is its first is not known"
                faults.setdefault(one.number, EpisodeFault(reason, f"{told}. Fetch meta once more."))
        if last is None or last.path != span.path or span.end_s > last.end_s:
            last = span
    return faults


class _Span(NamedTuple):
    """Where meta says that an episode is, and whether that is not more than its rows take."""

    path: Path
    begin_s: float
    end_s: float
    number: int
    fits: bool


def _spans(episodes: Iterable[Episode], fps: float) -> Iterator[_Span]:
    for episode in episodes:
        part = episode.video
        if part is None or part.is_whole:
            continue
        frames = None if part.to_s is None else (part.to_s - part.from_s) * fps
        rows = episode.length
        num = max((one for one in (frames, rows) if one is not None), default=None)
        if num is not None:
            fits = frames is None or rows is None or frames - rows <= HALF
            yield _Span(part.path, part.from_s, part.from_s + num / fps, episode.number, fits)
