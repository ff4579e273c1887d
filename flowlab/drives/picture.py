"""Pictures as arrays."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def to_rgb_array(picture: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """RGB (height, width, 3), resized with anti-aliasing if need be. Raises what Pillow raises for torn bytes."""
    if picture.mode != "RGB":  # convert copies one that is RGB already
        picture = picture.convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture)
