"""Finds the images of a drive that cannot be decoded, by decoding every one.

A header can be read from a file that was cut off in the middle, so nothing less than decoding tells.
"""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from flowlab.core.digest import DIGEST_CHARS, digest_json
from flowlab.drives.picture import to_rgb_array

NUM_THREADS = 4
MAX_PIXELS = 2**26
"""More than any camera's: a damaged header may ask for gigabytes."""


class ImageFault(NamedTuple):
    """What is wrong with an image: the kind, and in words."""

    reason: str
    detail: str


class ImageCheck(NamedTuple):
    """What is wrong with which image, and a digest over names and content of all of them."""

    faults: dict[str, ImageFault]
    digest: str


def check_images(folder: Path, names: Sequence[str]) -> ImageCheck:
    """The check of those files in `folder`."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        results = list(pool.map(_check_image, (folder / name for name in names), chunksize=64))
    faults = {name: fault for name, (fault, _) in zip(names, results, strict=True) if fault is not None}
    return ImageCheck(faults, digest_json([[name, content] for name, (_, content) in zip(names, results, strict=True)]))


def _check_image(path: Path) -> tuple[ImageFault | None, str]:
    """What is wrong with the file, and a digest of its bytes ("" if it cannot be read)."""
    if not path.is_file():  # a pipe could be waited on without end
        return ImageFault("image is missing", "is missing"), ""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else str(error)
        return ImageFault("image cannot be read", f"cannot be read ({told})"), ""
    digest = hashlib.blake2b(content, digest_size=DIGEST_CHARS // 2).hexdigest()
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"{picture.width} x {picture.height} pixels")
            to_rgb_array(picture, picture.height, picture.width)
    except (
        Exception
    ) as error:  # a decoder meets torn bytes with whatever comes: OSError, SyntaxError, ValueError, EOFError ...
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        return ImageFault("image cannot be decoded", f"cannot be decoded ({told})"), digest
    return None, digest
