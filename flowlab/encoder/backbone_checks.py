"""What is proved of a frozen model before anything is encoded by it: each time the same, all of the image, own weights.

All is asked by passes over single images, whose bits are compared: no gradients, so that a large model fits, and half
precision is no other matter.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flowlab.core.errors import EncoderError

if TYPE_CHECKING:
    from flowlab.encoder.backbone import Backbone


def require_sound(backbone: "Backbone", absent: Mapping[str, Tensor]) -> None:
    """Raises EncoderError unless the model gives the same finite tokens twice and sees its whole images.

    `absent` are the weights that are in no file, by name, so at random: nothing that is taken may depend on them.
    """
    name, images = backbone.folder.name, backbone.samples(1)
    first = _tokens(backbone, images)
    if not first.isfinite().all():
        hint = " Set encoder.dtype = 'float32'." if backbone.settings.dtype != "float32" else ""
        raise EncoderError(f"model {name!r} gives tokens that are not finite for an image of random pixels.{hint}")
    if not torch.equal(first, _tokens(backbone, images)):
        raise EncoderError(
            f"model {name!r} gives other tokens for the same image the second time: it draws at random even in eval "
            f"mode (as ViT-MAE does, which hides patches). Take another model."
        )
    _require_all_seen(backbone, images, first)
    with torch.no_grad():
        for weight, value in absent.items():
            value.add_(1)
            if not torch.equal(first, _tokens(backbone, images)):
                raise EncoderError(
                    f"the weights {weight!r} of model {name!r} are in none of its files, and its tokens hang on them. "
                    f"Fetch it anew, or take another."
                )


def _tokens(backbone: "Backbone", images: Tensor) -> Tensor:
    """All that is taken of the images, in one."""
    tokens = backbone(images)
    return tokens.pooled if tokens.image is None else torch.cat([tokens.pooled.unsqueeze(1), tokens.image], dim=1)


def _require_all_seen(backbone: "Backbone", images: Tensor, first: Tensor) -> None:
    """Raises EncoderError where the last rows or columns change nothing: models drop what does not fill a patch."""

    def is_seen(rows: int, columns: int) -> bool:
        other = images.clone()
        height, width = backbone.size
        other[:, height - rows :] ^= 255
        other[:, :, width - columns :] ^= 255
        return not torch.equal(first, _tokens(backbone, other))

    height, width = backbone.size
    rows = _num_unseen(height, lambda num: is_seen(num, 0))
    columns = _num_unseen(width, lambda num: is_seen(0, num))
    if rows == height or columns == width:
        raise EncoderError(
            f"what encoder.pool {backbone.settings.pool!r} takes of layer {backbone.settings.layer} of model "
            f"{backbone.folder.name!r} does not depend on the image. Take a later layer, or other tokens."
        )
    if rows or columns:
        grid = backbone.layout.grid or (0, 0)
        unseen = [f"the last {rows} rows" if rows else "", f"the last {columns} columns" if columns else ""]
        fits = [_fitting("height", height, rows, grid[0]), _fitting("width", width, columns, grid[1])]
        raise EncoderError(
            f"model {backbone.folder.name!r} never sees {' and '.join(filter(None, unseen))} of images of {height} x "
            f"{width} (height x width): they fill no patch. Set {' and '.join(filter(None, fits))}."
        )


def _num_unseen(size: int, is_seen: Callable[[int], bool]) -> int:
    """How many of the last rows can be changed, and nothing is: a search by halves."""
    if is_seen(1):
        return 0
    unseen, seen = 1, size + 1
    while seen - unseen > 1:
        middle = (unseen + seen) // 2
        if is_seen(middle):
            seen = middle
        else:
            unseen = middle
    return unseen


def _fitting(what: str, size: int, unseen: int, patches: int) -> str:
    """The nearest sizes that have no part without a patch, as settings; "" where `size` is one."""
    if not unseen:
        return ""
    below = size - unseen
    above = f" or {below + below // patches}" if patches else ""
    return f"encoder.image_{what} = {below}{above}"
