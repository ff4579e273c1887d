"""What was found out about files, kept beside the caches until a file changes."""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from flowlab.core.digest import digest_json
from flowlab.core.files import Stamp, stamp_of, write_json_atomic

VERSION = 1
TICK_NS = 10_000_000
"""File systems tell times in ticks of up to this: what is written twice within one tick may keep its stamp."""


def settled_stamps(paths: Iterable[Path | str]) -> list[Stamp]:
    """The stamps of files that are about to be read, taken once the newest of them is a tick old."""
    stamps = [stamp_of(path) for path in paths]
    newest = max((stamp[2] for stamp in stamps if stamp), default=0)
    if 0 <= time.time_ns() - newest < TICK_NS:
        time.sleep(TICK_NS / 1e9)
    return stamps


def read_memo(path: Path) -> dict[str, Any] | None:
    """What `write_memo` has written, or None if there is nothing, or it is torn or was edited."""
    try:
        kept = json.loads(path.read_bytes())
        content = kept["memo"]
        return content if kept["version"] == VERSION and kept["digest"] == digest_json(content) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_memo(path: Path, content: dict[str, Any]) -> None:
    """Keep it, if there is room and permission: without a memo the same is found out again."""
    with suppress(OSError):
        write_json_atomic(path, {"version": VERSION, "digest": digest_json(content), "memo": content})
