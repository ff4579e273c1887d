"""The frames of a video by their place in it: in order without a seek, and by seeks that are believed with care."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowlab.core.errors import told_by
from flowlab.drives.video_index import UnreadableVideoError, VideoIndex, import_av

if TYPE_CHECKING:
    import av

SEEK_FROM = 50
"""Frames that are decoded and passed over rather than sought across: a seek costs about as much."""
PICTURE_I, PICTURE_UNTOLD = 1, 0
"""What a frame's `pict_type` is for one that leans on no other, and for codecs that have no other kind."""
FURTHER_BACK = 8
"""Keyframes before the nearest one from which a frame is tried once more."""


class UndecodableFrameError(Exception):
    """A frame that is in the file and cannot be decoded."""

    def __init__(self, place: int, why: str) -> None:
        super().__init__(place, why)
        self.place, self.why = place, why


class VideoReader:
    """The frames of one video. Frames that follow each other are decoded once and in order; a jump is a seek.

    A seek is believed only if the first packet after it is of a keyframe at or before the wanted frame, and that
    keyframe comes out of the decoder as a picture of its own. Else it goes further back. On streams with open groups
    of pictures (x264's open-gop, x265 as it comes) libavformat lands up to 0.3 s after the time asked for, and a
    stream with intra refresh calls pictures keyframes that lean on others.
    """

    def __init__(self, path: Path, index: VideoIndex) -> None:
        """Raises UnreadableVideoError if the file cannot be opened any more."""
        self.path, self.index = path, index
        self._open()

    def read(self, places: Sequence[int]) -> Iterator[tuple[int, "av.VideoFrame"]]:
        """The frames at those places, which increase. Raises UndecodableFrameError."""
        for place in places:
            frame = self._find(place)
            if frame is None:
                frame = self._find_alone(place)
            yield place, frame

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def _open(self, threads: int = 0) -> None:
        """From the first frame on. With 0 threads there is one for each core."""
        av = import_av()
        self._error: type[Exception] = av.FFmpegError
        self._threads = threads
        try:
            self._container = av.open(str(self.path))
        except (av.FFmpegError, OSError) as error:  # it could be opened when its packets were read
            raise UnreadableVideoError(told_by(error)) from None
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._stream.thread_count = threads
        self._follow(self._container.demux(self._stream))

    def _follow(self, packets: Iterable["av.Packet"]) -> None:
        self._why = "it is not in what the decoder gives"
        self._frames = self._decode(packets)
        self._ahead: deque[tuple[int, av.VideoFrame]] = deque()

    def _decode(self, packets: Iterable["av.Packet"]) -> Iterator[tuple[int, "av.VideoFrame"]]:
        """Frames in the order of their places. What cannot be decoded is not among them."""
        try:
            for packet in packets:
                try:
                    frames = packet.decode()
                except self._error as error:
                    self._why = told_by(error)
                    continue
                for frame in frames:
                    place = self.index.place_of(frame.pts)
                    if place is not None:
                        yield place, frame
        except self._error as error:  # of the container: nothing comes after it
            self._why = told_by(error)

    def _peek(self) -> int | None:
        """The place of the frame that comes next; None at the end."""
        if not self._ahead:
            self._ahead.extend(itertools.islice(self._frames, 1))
        return self._ahead[0][0] if self._ahead else None

    def _find(self, place: int) -> "av.VideoFrame | None":
        """The frame at `place`; None if it does not come out whole."""
        key = int(np.searchsorted(self.index.keyframes, place, "right")) - 1
        coming = self._peek()
        if coming is None or coming > place or (key >= 0 and self.index.keyframes[key] - coming > SEEK_FROM):
            self._seek(place, key)
        return self._take(place)

    def _find_alone(self, place: int) -> "av.VideoFrame":
        """The same by one thread, from further back. Threads may lose sound frames next to one that is not."""
        self.close()
        self._open(threads=1)
        key = int(np.searchsorted(self.index.keyframes, place, "right")) - 1
        self._seek(place, key - FURTHER_BACK)
        frame = self._take(place)
        why = self._why
        self.close()
        self._open()
        if frame is None:
            raise UndecodableFrameError(place, why)
        return frame

    def _take(self, place: int) -> "av.VideoFrame | None":
        while (coming := self._peek()) is not None and coming <= place:
            _, frame = self._ahead.popleft()
            if coming == place:
                if frame.is_corrupt:
                    self._why = "its data is damaged"
                    return None
                return frame
        return None

    def _seek(self, place: int, key: int) -> None:
        """Go on at the keyframe number `key`, or as far before it as `place` can be trusted from."""
        step = 1
        while key >= 0:
            if self._land(int(self.index.keyframes[key]), place):
                return
            key -= step
            step *= 2
        self.close()
        self._open(self._threads)

    def _land(self, keyframe: int, place: int) -> bool:
        """Whether a seek to the keyframe at that place came out where `place` can be decoded from."""
        try:
            self._container.seek(int(self.index.shown[keyframe]), stream=self._stream)
            packets = self._container.demux(self._stream)
            first = next(packets)
        except (self._error, StopIteration):
            return False
        landed = self.index.place_of(first.pts)
        if landed is None or landed > place:
            return False
        self._follow(itertools.chain([first], packets))
        while (coming := self._peek()) is not None and coming < landed:
            self._ahead.popleft()  # it leans on frames before the keyframe, which were not decoded
        return coming == landed and self._ahead[0][1].pict_type in (PICTURE_I, PICTURE_UNTOLD)
