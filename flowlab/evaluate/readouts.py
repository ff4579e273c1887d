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


def mediank(draws: NDArray) -> NDArray[np.float32]:
    """The median of all K draws, entry by entry: (N, K, H, A) -> (N, H, A).

    Of all chunks that one could read out of the same draws it has the least expected absolute error, slot by slot, so
    it is what a policy should be compared by with the train median, which has the least of all constants.
    """
    return np.median(draws, axis=1).astype(np.float32)


READOUTS: dict[str, Callable[[NDArray], NDArray[np.float32]]] = {
    "single": single,
    "meank": meank,
    "mediank": mediank,
}
