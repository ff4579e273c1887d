"""How frames become what a Hugging Face model was trained on: read from its preprocessor file, done here.

transformers' own processor class is not asked: which one it is, and so the numbers, depends on what else is installed.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowlab.core.errors import EncoderError, told_by

if TYPE_CHECKING:
    from torch import Tensor

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
UNKNOWN = ("rescale_offset", "offset", "include_top")
"""Switches of some processors that change numbers in ways of their own."""


@dataclass(frozen=True)
class Preparation:
    """pixel -> (pixel * scale - mean) / std for each of the three colours, and the size that the model expects."""

    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    is_bgr: bool
    size: tuple[int, int] | None  # height and width; None where the file names none

    def __call__(self, images: "Tensor") -> "Tensor":
        """(N, height, width, 3) uint8 RGB -> (N, 3, height, width) float32."""
        scaled = images.float() * self.scale
        if self.is_bgr:
            scaled = scaled.flip(-1)
        return ((scaled - scaled.new_tensor(self.mean)) / scaled.new_tensor(self.std)).permute(0, 3, 1, 2).contiguous()

    def to_json(self) -> dict[str, Any]:
        """All that changes numbers, as plain JSON; the size is the encoder's to say."""
        return {name: value for name, value in asdict(self).items() if name != "size"}


def read_preparation(model: str, folder: Path) -> Preparation:
    """The preparation that the preprocessor file in `folder` asks for. Raises EncoderError where it cannot be told."""
    where, table = _read(model, folder)
    for switch in UNKNOWN:
        if table.get(switch):
            raise EncoderError(
                f"{where} of model {model!r} sets {switch}, which flowlab does not know how to do. Take another model, "
                f"or wrap this one as an encoder of your own: docs/encoders.md"
            )
    normalises = table.get("do_normalize", True)
    scale = table.get("rescale_factor", 1 / 255) if table.get("do_rescale", True) else 1.0
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale) or scale <= 0:
        raise EncoderError(f"{where} of model {model!r} has rescale_factor {scale!r}, expected a number above 0.")
    mean = _colours(model, where, table, "image_mean") if normalises else (0.0, 0.0, 0.0)
    std = _colours(model, where, table, "image_std") if normalises else (1.0, 1.0, 1.0)
    if min(std) <= 0:
        raise EncoderError(f"{where} of model {model!r} has image_std {list(std)}, expected numbers above 0.")
    return Preparation(float(scale), mean, std, bool(table.get("do_flip_channel_order", False)), _size(table))


def read_json(model: str, path: Path) -> Any:
    """What a JSON file of a model's folder holds. Raises EncoderError where it cannot be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(
            f"{path.name} of model {model!r} cannot be read ({told_by(error)}). Fetch it anew."
        ) from None


def _read(model: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """The name and the table of the file that says how images are prepared."""
    for name in (PREPROCESSOR, PROCESSOR):
        if not (folder / name).exists():
            continue
        table = read_json(model, folder / name)
        if isinstance(table, dict) and name == PROCESSOR:
            table = table.get("image_processor")
        if isinstance(table, dict):
            return name, table
    raise EncoderError(
        f"model {model!r} has no {PREPROCESSOR} in {folder}, so nobody can tell how its images were normalised. Put "
        f"that of the model that it comes from beside its config.json."
    )


def _colours(model: str, where: str, table: dict[str, Any], key: str) -> tuple[float, float, float]:
    value = table.get(key)
    values = [value] * 3 if isinstance(value, int | float) else value
    if not isinstance(values, list) or len(values) != 3 or not all(_is_number(one) for one in values):
        raise EncoderError(
            f"{where} of model {model!r} has {key} {value!r}, expected three numbers. Take the file of the model that "
            f"it comes from."
        )
    red, green, blue = map(float, values)
    return red, green, blue


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _size(table: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of what the model sees at last: of the crop where it crops, else of the whole."""
    crop = table.get("crop_size")
    wanted = crop if crop and table.get("do_center_crop", True) else table.get("size")
    if isinstance(wanted, dict):
        side = wanted.get("shortest_edge")
        pair = (wanted.get("height", side), wanted.get("width", side))
    elif wanted is None and _is_number(table.get("max_num_patches")) and _is_number(table.get("patch_size")):
        side = math.isqrt(int(table["max_num_patches"])) * int(table["patch_size"])  # as many patches, in a square
        pair = (side, side)
    else:
        pair = (wanted, wanted)
    height, width = pair
    if type(height) is int and type(width) is int and min(height, width) > 0:
        return height, width
    return None
