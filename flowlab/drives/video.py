"""Videos, read in order: what is in a file by one pass over its packets, and frames by their place in it.

A place is the number of a frame in the order in which frames are shown, from 0. Time stamps are compared as the whole
numbers that they are in the file, never as seconds.
"""

import base64
import hashlib
import itertools
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowlab.core.digest import DIGEST_CHARS, digest_bytes, digest_json
from flowlab.core.errors import MissingError, told_by
from flowlab.drives.memo import read_memo, settled_stamps, stamp_of, write_memo

if TYPE_CHECKING:
    import av

SEEK_FROM = 50
"""Frames that are decoded and passed over rather than sought across: a seek costs about as much."""
PICTURE_I, PICTURE_UNTOLD = 1, 0
"""What a frame's `pict_type` is for one that leans on no other, and for codecs that have no other kind."""
FURTHER_BACK = 8
"""Keyframes before the nearest one from which a frame is tried once more."""


class UnreadableVideoError(Exception):
    """A file that cannot be opened as a video; the message is the library's."""


class UndecodableFrameError(Exception):
    """A frame that is in the file and cannot be decoded."""

    def __init__(self, place: int, why: str) -> None:
        super().__init__(place, why)
        self.place, self.why = place, why


def import_av() -> Any:
    """PyAV. Raises MissingError with the command that installs it."""
    try:
        import av
    except ImportError as error:
        raise MissingError(
            f"videos are read by PyAV, which cannot be loaded ({told_by(error)}). Install it: "
            f"pip install 'flowlab[lerobot]'"
        ) from None
    return av


@dataclass(frozen=True)
class VideoIndex:
    """The packets of a video stream, in the order in which they are decoded."""

    codec: str  # digest of what a decoder is set up with
    time_base: Fraction  # seconds per unit of `pts`
    pts: NDArray[np.int64]  # (P,)
    is_key: NDArray[np.bool_]  # (P,)
    is_shown: NDArray[np.bool_]  # (P,) false for what is only decoded, and for torn packets
    digests: NDArray[np.uint64]  # (P,) of their bytes
    undecodable: dict[int, str] = field(default_factory=dict)  # places that were tried in vain, and why

    @cached_property
    def shown(self) -> NDArray[np.int64]:
        """The time stamps of the frames, in order: frame `place` is at shown[place]."""
        return np.unique(self.pts[self.is_shown])

    @cached_property
    def seconds(self) -> NDArray[np.float64]:
        """The time of each frame, counted from the first one."""
        return (self.shown - self.shown[:1]).astype(np.float64) * float(self.time_base)

    @cached_property
    def keyframes(self) -> NDArray[np.int64]:
        """The places of the keyframes, in order."""
        return np.searchsorted(self.shown, np.sort(self.pts[self.is_key & self.is_shown]))

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """By place, the number of the frame's packet."""
        by_time = np.argsort(self.pts, kind="stable")
        return by_time[np.searchsorted(self.pts[by_time], self.shown)]

    def place_of(self, pts: int | None) -> int | None:
        """The place of the frame with that time stamp; None for one that is not shown."""
        if pts is None:
            return None
        place = int(np.searchsorted(self.shown, pts))
        return place if place < len(self.shown) and self.shown[place] == pts else None

    def digest(self, first: int, num: int) -> str:
        """16 hex digits over what `num` frames from `first` on are decoded from, wherever in a file that lies."""
        packets = self.order[first : first + num]
        keys = np.flatnonzero(self.is_key)
        before = keys[keys <= packets.min()]
        start = int(before[-1]) if len(before) else 0
        part = slice(start, int(packets.max()) + 1)
        told = [self.codec, num, (packets - start).tolist()]
        return digest_bytes(digest_json(told).encode(), self.digests[part].tobytes())


def read_index(path: Path, memo: Path) -> VideoIndex:
    """The index of the video at `path`, from `memo` if the file is as it was. Raises UnreadableVideoError.

    A file that was cut off is read up to there.
    """
    (stamp,) = settled_stamps([path])
    kept = read_memo(memo)
    if kept is not None and kept["stamp"] == stamp:
        return _unpack(kept)
    index = _read_packets(path)
    write_memo(memo, {"stamp": stamp} | _pack(index))
    return index


def remember(path: Path, memo: Path, index: VideoIndex) -> None:
    """Keep what `index.undecodable` says until the file changes."""
    write_memo(memo, {"stamp": stamp_of(path)} | _pack(index))


def _read_packets(path: Path) -> VideoIndex:
    av = import_av()
    pts, is_key, is_shown, digests = [], [], [], []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            told = [context.name, context.width, context.height, str(context.pix_fmt)]
            codec = digest_bytes(digest_json(told).encode(), context.extradata or b"")
            time_base = Fraction(stream.time_base)
            try:
                for packet in container.demux(stream):
                    if packet.size and packet.pts is not None:
                        pts.append(packet.pts)
                        is_key.append(packet.is_keyframe)
                        is_shown.append(not packet.is_discard and not packet.is_corrupt)
                        digests.append(hashlib.blake2b(packet, digest_size=DIGEST_CHARS // 2).digest())
            except av.FFmpegError:
                pass  # cut off in the middle: what is before it can be read
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise UnreadableVideoError(told_by(error) if str(error) else "it holds no video") from None
    return VideoIndex(
        codec,
        time_base,
        np.array(pts, np.int64),
        np.array(is_key, bool),
        np.array(is_shown, bool),
        np.frombuffer(b"".join(digests), np.uint64),
    )


ARRAYS = {"pts": np.int64, "is_key": np.bool_, "is_shown": np.bool_, "digests": np.uint64}


def _pack(index: VideoIndex) -> dict[str, Any]:
    arrays = {name: pack_array(getattr(index, name)) for name in ARRAYS}
    base = [index.time_base.numerator, index.time_base.denominator]
    undecodable = {str(place): why for place, why in index.undecodable.items()}
    return arrays | {"codec": index.codec, "time_base": base, "undecodable": undecodable}


def _unpack(kept: dict[str, Any]) -> VideoIndex:
    arrays: dict[str, Any] = {name: unpack_array(kept[name], dtype) for name, dtype in ARRAYS.items()}
    undecodable = {int(place): why for place, why in kept["undecodable"].items()}
    return VideoIndex(kept["codec"], Fraction(*kept["time_base"]), **arrays, undecodable=undecodable)


def pack_array(array: NDArray) -> str:
    """The array's values as a short text of ASCII."""
    return base64.b85encode(zlib.compress(array.tobytes())).decode()


def unpack_array(text: str, dtype: Any) -> NDArray:
    """What `pack_array` was given."""
    return np.frombuffer(zlib.decompress(base64.b85decode(text)), dtype)


class VideoReader:
    """The frames of one video. Frames that follow each other are decoded once and in order; a jump is a seek.

    A seek is believed only if the first packet after it is of a keyframe at or before the wanted frame, and that
    keyframe comes out of the decoder as a picture of its own. Else it goes further back. On streams with open groups
    of pictures (x264's open-gop, x265 as it comes) libavformat lands up to 0.3 s after the time asked for, and a
    stream with intra refresh calls pictures keyframes that lean on others.
    """

    def __init__(self, path: Path, index: VideoIndex) -> None:
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
        self._container = av.open(str(self.path))
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
