"""The records of an offline run of W&B: `run-ID.wandb`, a log of LevelDB's framing with a protobuf message in each.

The file begins with seven bytes (`:W&B`, a magic number, a version). Blocks of 32 KiB hold pieces: CRC-32 of all that
follows, length, kind (whole, first, middle, last), content; less than a header's room at a block's end is filled. A run
that was killed leaves a piece cut short: what is whole before it counts.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

HEADER = b":W&B\xe1\xbe\x00"
BLOCK_BYTES = 32 * 1024
PIECE = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
VARINT_BYTES = 10


class Field(NamedTuple):
    """One field of a message: a varint as an int, anything else as its bytes."""

    number: int
    value: int | bytes


def records_of(content: bytes) -> Iterator[bytes | None]:
    """The whole records in order; None where at least one was damaged. One that is cut short at the end is no record.

    `content` begins with `HEADER`.
    """
    at, parts, is_lost = len(HEADER), list[bytes](), False
    while at + PIECE.size <= len(content):
        left = BLOCK_BYTES - at % BLOCK_BYTES
        if left < PIECE.size:
            at += left
            continue
        checksum, length, kind = PIECE.unpack_from(content, at)
        end = at + PIECE.size + length
        if end > len(content) and PIECE.size + length <= left:
            return  # cut short
        if not any(content[at : at + PIECE.size]) and not content[at:].strip(b"\0"):
            return  # room that was never written to
        is_sound = PIECE.size + length <= left and zlib.crc32(content[at + 6 : end]) == checksum
        if not is_sound or kind not in (WHOLE, FIRST, MIDDLE, LAST):
            yield None
            parts, at, is_lost = [], at + left, True  # pieces begin anew at the next block
            continue
        if bool(parts) != (kind in (MIDDLE, LAST)):  # the pieces before it, or after it, are not there
            if not is_lost:
                yield None
            parts, is_lost = [], kind == MIDDLE
        if kind in (WHOLE, FIRST) or parts:
            parts.append(content[at + PIECE.size : end])
            is_lost = False
        if kind in (WHOLE, LAST) and parts:
            yield b"".join(parts)
            parts = []
        at = end


def fields_of(message: bytes) -> Iterator[Field]:
    """The fields of a protobuf message in order. Raises ValueError for bytes that are none."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield Field(number, value)
            continue
        if kind == BYTES:
            length, at = _varint(message, at)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"field {number} is of wire type {kind}")
        if at + length > len(message):
            raise ValueError(f"field {number} ends after the message")
        yield Field(number, message[at : at + length])
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number in pieces of seven bits, the low ones first; and where it ends."""
    if at < len(message) and message[at] < 0x80:
        return message[at], at + 1
    number = 0
    for place, byte in enumerate(message[at : at + VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise ValueError("a number does not end")
