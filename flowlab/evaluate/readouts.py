"""How K draws become one chunk."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def single(draws: NDArray) -> NDArray[np.float32]:
    """The first draw: (N, K, H, A) -> (N, H, A)."""
    return draws[:, 0].astype(np.float32)


def meank(draws: NDArray) -> NDArray[np.float32]:
    """The mean of all K draws, summed in float64: (N, K, H, A) -> (N, H, A)."""
    return draws.mean(axis=1, dtype=np.float64).astype(np.float32)


READOUTS: dict[str, Callable[[NDArray], NDArray[np.float32]]] = {"single": single, "meank": meank}
