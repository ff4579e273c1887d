"""What is in a video, by one pass over its packets and without decoding any.

A place is the number of a frame in the order in which frames are shown, from 0. Time stamps are compared as the whole
numbers that they are in the file, never as seconds.
"""

import base64
import hashlib
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowlab.core.digest import DIGEST_CHARS, digest_bytes, digest_json
from flowlab.core.errors import MissingError, told_by
from flowlab.core.files import stamp_of
from flowlab.drives.memo import read_memo, settled_stamps, write_memo


class UnreadableVideoError(Exception):
    """A file that cannot be opened as a video; the message is the library's."""


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
    except IndexError:
        raise UnreadableVideoError("it holds no video") from None
    except Exception as error:  # a damaged header is met with whatever comes
        raise UnreadableVideoError(told_by(error)) from None
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
