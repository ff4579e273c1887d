"""Where the conditions that a cohort trains on lie: on its device, in main memory, or in the cache's files.

It follows from how large they are and what is free. It is no setting of a recipe, for the batches are the same.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import torch

from flowlab.cache.cache import Cache
from flowlab.cache.conditions import Pinned, Streamed
from flowlab.cache.verify import prove_cache
from flowlab.core.errors import StudyError
from flowlab.core.memory import free_memory
from flowlab.core.progress import Progress
from flowlab.train.cohort import Cohort
from flowlab.train.data import Conditions
from flowlab.train.order import WINDOW_BLOCKS

VARIABLE = "FLOWLAB_CONDITIONS_GB"
"""How many GB of main memory conditions may take, in each process; on a GPU, of its memory too."""

VAL_CHUNKS = 2
"""Chunk files of a streamed validation side that are in memory."""

SHARE = 0.75
"""Of what is free, where the variable does not say otherwise."""


ROW_BY_ROW = (
    'row by row, which is slow. train.shuffle = "blocks" reads them in large pieces; it is another order of batches, '
    "so another recipe"
)


class Placement(NamedTuple):
    """Where conditions lie, and what they may take there."""

    way: Literal["resident", "pinned", "streamed"]
    allowed: float  # bytes of main memory


def train_conditions(
    cache: Cache,
    variants: Sequence[str],
    tokens: Sequence[int],
    cohort: Cohort,
    device: torch.device,
    progress: Progress,
) -> Mapping[str, Conditions]:
    """The train side's conditions by variant, with the `tokens` that the cohort's decoders see, where they fit.

    Says so where it is not the device. Raises StudyError for a limit that is no number, CacheCorruptError for files
    that are not what was written.
    """
    arrays = {variant: cache.condition_layout("train", variant) for variant in variants}
    needed = sum(array.num_bytes for array in arrays.values())
    placement = choose_placement(needed, device)
    if placement.way == "streamed":
        in_blocks = cohort.shape.train.shuffle == "blocks"
        if not in_blocks and not isinstance(cache.path, Path):
            raise StudyError(
                f"{_too_large(needed, placement)}, and lie in {cache.path}, where a row takes as long as a file. Set "
                f'train.shuffle = "blocks" below [control], or let them take more ({VARIABLE}).'
            )
        how = "in shuffled blocks" if in_blocks else ROW_BY_ROW
        progress.say(_told(cache, needed, placement, how))
        most_chunks = 2 * WINDOW_BLOCKS * len(cohort.seeds) if in_blocks else 0  # the window, and the one before it
        if not in_blocks:
            prove_cache(cache.path, progress)  # a row that is read by itself has no digest
        digests = cache.attributes["digests"]
        return {
            variant: Streamed(cache.path, array, digests, device, tuple(tokens), most_chunks)
            for variant, array in arrays.items()
        }
    where = device if placement.way == "resident" else torch.device("cpu")
    read = {variant: take_tokens(cache.condition("train", variant, where), tokens) for variant in variants}
    if placement.way == "resident":
        return read
    progress.say(f"conditions of {_size(needed)} do not fit on the GPU: kept in main memory")
    return {variant: Pinned(condition, device) for variant, condition in read.items()}


def val_condition(cache: Cache, tokens: Sequence[int], device: torch.device, progress: Progress) -> torch.Tensor:
    """The validation side's conditions with those `tokens`; where they do not fit, `Streamed` in a tensor's place.

    Frames are validated and drawn for in their order, stretch by stretch, and that is all that is done with them.
    """
    array = cache.condition_layout("val", "normal")
    placement = choose_placement(array.num_bytes, device)
    if placement.way == "resident":
        return take_tokens(cache.condition("val", "normal", device), tokens)
    progress.say(_told(cache, array.num_bytes, placement, "of the validation side, in their order"))
    found = Streamed(cache.path, array, cache.attributes["digests"], device, tuple(tokens), VAL_CHUNKS)
    return cast(torch.Tensor, found)


def choose_placement(needed: int, device: torch.device) -> Placement:
    """Where conditions of so many bytes lie that are trained on with that device: as near to it as they fit."""
    limit, free = memory_limit(), free_memory()
    allowed = limit if limit is not None else float("inf") if free is None else SHARE * free
    if device.type == "cpu":
        return Placement("resident" if needed <= allowed else "streamed", allowed)
    on_device = limit if limit is not None else SHARE * torch.cuda.mem_get_info(device)[0]
    if needed <= on_device:
        return Placement("resident", allowed)
    return Placement("pinned" if needed <= allowed else "streamed", allowed)


def memory_limit() -> float | None:
    """Bytes that conditions may take, as the environment says; None where it says nothing."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    try:
        limit = float(text)
        if limit >= 0:
            return limit * 1e9
    except ValueError:
        pass
    raise StudyError(
        f"{VARIABLE} is {text!r}, expected how many GB conditions may take, 0 or more. Set it, or unset it: "
        f"{SHARE:.0%} of what is free are then taken."
    )


def take_tokens(condition: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
    """The tokens of a condition (N, S, D) that a decoder sees; the condition itself if it sees all."""
    return condition if len(tokens) == condition.shape[1] else condition[:, list(tokens)]


def _told(cache: Cache, needed: int, placement: Placement, how: str) -> str:
    return f"{_too_large(needed, placement)}: streamed from cache {cache.cache_id}, {how}"


def _too_large(needed: int, placement: Placement) -> str:
    return f"conditions of {_size(needed)} do not fit into the {_size(placement.allowed)} that they may take"


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
