"""Finds the images of a drive that cannot be decoded, by decoding every one, once.

A header can be read from a file that was cut off in the middle, so nothing less than decoding tells. The answer is kept
beside the caches under a stamp of all names, sizes and modification times, so it costs milliseconds from then on.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from flowlab.core.digest import DIGEST_CHARS, digest_json
from flowlab.core.files import write_json_atomic
from flowlab.drives.picture import to_rgb_array

NUM_THREADS = 4


@dataclass(frozen=True)
class ImageCheck:
    """What is wrong with which image ("" stands for none), and a digest over names and content of all of them."""

    faults: dict[str, str]
    digest: str


def check_images(folder: Path, names: Sequence[str], memo: Path) -> ImageCheck:
    """The check of those files in `folder`, from `memo` if that one still fits, else done and written there."""
    stamp = digest_json([[name, *_stamp(folder / name)] for name in names])
    try:
        kept = json.loads(memo.read_text())
        if kept["stamp"] == stamp:
            return ImageCheck(kept["faults"], kept["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        results = list(pool.map(_check_image, (folder / name for name in names), chunksize=64))
    faults = {name: fault for name, (fault, _) in zip(names, results, strict=True) if fault}
    digest = digest_json([[name, content] for name, (_, content) in zip(names, results, strict=True)])
    check = ImageCheck(faults, digest)
    write_json_atomic(memo, {"stamp": stamp} | asdict(check))
    return check


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (-1, -1)
    return stat.st_size, stat.st_mtime_ns


def _check_image(path: Path) -> tuple[str, str]:
    """What is wrong with the file ("" for nothing), and a digest of its bytes."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return "is missing", ""
    except OSError as error:
        return f"cannot be read ({error.strerror})", ""
    digest = hashlib.blake2b(content, digest_size=DIGEST_CHARS // 2).hexdigest()
    try:
        with Image.open(io.BytesIO(content)) as picture:
            to_rgb_array(picture, picture.height, picture.width)
    except (
        Exception
    ) as error:  # a decoder meets torn bytes with whatever comes: OSError, SyntaxError, ValueError, EOFError ...
        return f"cannot be decoded ({str(error).splitlines()[0] if str(error) else type(error).__name__})", digest
    return "", digest
