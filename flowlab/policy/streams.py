"""Torch generators for named random streams (see core/seeds.py)."""

import torch

from flowlab.core.seeds import derive_seed


def stream(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for the stream `names` of `seed`, on `device`.

    With the step among its names a stream has no state to save: a resumed run draws what it would have drawn. The bits
    differ between a CPU and a GPU, never between two runs on the same device.
    """
    return torch.Generator(device).manual_seed(derive_seed(seed, *names))
