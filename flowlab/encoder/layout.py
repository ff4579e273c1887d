"""Which of a vision model's tokens are what: asked of the model, by what it gives for two different images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from flowlab.core.errors import EncoderError
from flowlab.study.huggingface import HuggingFaceSettings

MOST_CLASS_TOKENS = 2
"""Tokens before the patches that are no registers: the class token, and DeiT's distillation token behind it."""


@dataclass(frozen=True)
class Layout:
    """The tokens of one frame: prefix tokens (class token first, registers last), then patches row by row."""

    width: int
    num_tokens: int
    num_prefix: int
    num_registers: int
    grid: tuple[int, int] | None  # rows and columns of patches; None where the model does not say

    @property
    def has_class(self) -> bool:
        return self.num_prefix > self.num_registers

    @property
    def num_patches(self) -> int:
        return self.num_tokens - self.num_prefix

    def __str__(self) -> str:
        rows, columns = self.grid or (0, 0)
        patches = f"{rows} x {columns} patches" if self.grid else f"{self.num_tokens} tokens of no known grid"
        others = self.num_prefix - self.num_registers - 1
        parts = [
            "1 class token" if self.has_class else "",
            f"{others} token{'s' if others > 1 else ''} that flowlab leaves out" if others > 0 else "",
            f"{self.num_registers} registers" if self.num_registers else "",
            patches,
        ]
        return f"{' + '.join(part for part in parts if part)} of width {self.width}"


def ask_layout(
    name: str, config: Any, output: Any, picked: Tensor, settings: HuggingFaceSettings, size: tuple[int, int]
) -> Layout:
    """The layout of `picked`, what the model gives for two different images of `size`, out of its whole `output`.

    Raises EncoderError where that has no tokens at all, or not those that `settings` ask for.
    """
    if picked.ndim == 4:  # (N, C, rows, columns): a map of features
        rows, columns = picked.shape[2:]
        layout = Layout(picked.shape[1], rows * columns, 0, 0, (rows, columns))
    elif picked.ndim == 3:
        layout = _layout_of_tokens(config, output, picked, settings.layer, size)
    else:
        raise EncoderError(
            f"model {name!r} gives {tuple(picked.shape[1:])} for an image, expected tokens or a map of features. Take "
            f"a model without a head, or another encoder.layer."
        )
    _require_pool(name, layout, settings)
    return layout


def _layout_of_tokens(config: Any, output: Any, picked: Tensor, layer: int | None, size: tuple[int, int]) -> Layout:
    _, num_tokens, width = picked.shape
    registers = int(getattr(config, "num_register_tokens", 0) or 0)
    for rows, columns in _grids(config, output, layer, size):
        prefix = num_tokens - rows * columns
        if prefix - registers in range(MOST_CLASS_TOKENS + 1) and _is_prefix(output, num_tokens, prefix):
            return Layout(width, num_tokens, prefix, registers, (rows, columns))
        if prefix == 0 and _is_prefix(output, num_tokens, 0):  # what has registers may leave them out at its end
            return Layout(width, num_tokens, 0, 0, (rows, columns))
    return Layout(width, num_tokens, 0, 0, None)


def _grids(config: Any, output: Any, layer: int | None, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Rows and columns that the patches may have: by the size of a patch, then by maps beside the tokens."""
    patch = getattr(config, "patch_size", None)
    down, across = patch if isinstance(patch, list | tuple) and len(patch) == 2 else (patch, patch)
    if type(down) is int and type(across) is int and down > 0 and across > 0:
        yield size[0] // down, size[1] // across
    for name in ("reshaped_hidden_states", "hidden_states"):
        states = getattr(output, name, None)
        if states and (layer is None or layer < len(states)):
            state = states[-1 if layer is None else layer]
            if state.ndim == 4:
                yield state.shape[2], state.shape[3]


def _is_prefix(output: Any, num_tokens: int, prefix: int) -> bool:
    """Whether the first `prefix` tokens know nothing of the image before they have looked at any other, and all others
    do; True where the model does not show its tokens as they enter.
    """
    states = getattr(output, "hidden_states", None)
    if not states or states[0].ndim != 3 or states[0].shape[1] != num_tokens:
        return True
    first, second = states[0]
    differs = (first != second).any(dim=-1)
    return not bool(differs[:prefix].any()) and bool(differs[prefix:].all())


def _require_pool(name: str, layout: Layout, settings: HuggingFaceSettings) -> None:
    """Raises EncoderError for tokens that the model does not have."""
    has = [
        *(["'cls'"] if layout.has_class else []),
        "'mean'",
        *(["'patches'"] if layout.grid else []),
        *(["'registers'"] if layout.num_registers else []),
    ]
    if f"'{settings.pool}'" not in has:
        choice = f"{', '.join(has[:-1])} or {has[-1]}" if len(has) > 1 else has[0]
        raise EncoderError(
            f"model {name!r} has no tokens for encoder.pool {settings.pool!r}: it has {layout}. Set pool to {choice}."
        )
    if settings.image_grid and layout.grid and settings.image_grid > min(layout.grid):
        raise EncoderError(
            f"encoder.image_grid {settings.image_grid} is finer than the {layout.grid[0]} x {layout.grid[1]} patches "
            f"of model {name!r}. Set {min(layout.grid)} or less, or 0 for all of them."
        )
