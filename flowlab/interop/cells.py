"""What one cell of somebody else's file is: text, a whole number, or nothing that can be read."""

import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

SHOWN_CHARS = 40
SHOWN_NAMES = 8
EXACT = 2**53
"""Whole numbers up to here are exact as floats: of a larger float nobody knows which number was meant."""
EXPONENT = 18  # of the largest whole number of 64 bits
_ESCAPED = re.compile(r"(\\*)(x[89a-f][0-9a-f]|[\udc80-\udcff])")


class Unreadable(NamedTuple):
    """A cell that Python cannot hold, with a sentence that says where it is and why."""

    told: str


def text_of(content: bytes | str) -> str:
    r"""`content` as text that any file can hold: UTF-8 as it is, \xff for a byte that is none.

    Two contents never become one text: where text itself says \xff, its backslashes are doubled.
    """
    if isinstance(content, str):
        if content.isascii() and "\\x" not in content:
            return content
        content = content.encode(errors="surrogatepass")  # half of a surrogate pair, which JSON can hold
    return _ESCAPED.sub(_escape, content.decode(errors="surrogateescape"))


def _escape(found: re.Match[str]) -> str:
    backslashes, what = found[1] * 2, found[2]
    return backslashes + (what if len(what) > 1 else f"\\x{ord(what) - 0xDC00:02x}")


def shown(value: Any) -> str:
    """A value for a message, cut if it is long."""
    told = repr(value)
    return told if len(told) <= SHOWN_CHARS else f"{told[:SHOWN_CHARS]}..."


def listed(names: Iterable[str]) -> str:
    """Names for a message, without line breaks: long ones are cut, and of many the first are told."""
    told = [name if name.isprintable() else repr(name)[1:-1] for name in names]
    told = [name if len(name) <= SHOWN_CHARS else f"{name[:SHOWN_CHARS]}..." for name in told]
    more = len(told) - SHOWN_NAMES
    return ", ".join(told) if more <= 1 else f"{', '.join(told[:SHOWN_NAMES])} and {more} more"


def whole_number(value: Any) -> int | None:
    """A whole number of 64 bits from 3, 3.0, "3" or "3.0"; None for anything else, and for a float beyond `EXACT`."""
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        return None
    if isinstance(value, float) and abs(value) > EXACT:
        return None
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        return None
    if not number.is_finite() or number.adjusted() > EXPONENT or number != number.to_integral_value():
        return None
    return whole if -(2**63) <= (whole := int(number)) < 2**63 else None
