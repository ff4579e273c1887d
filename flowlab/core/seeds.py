"""Named random streams: one seed, many independent generators, each known by its name.

A lever that draws more numbers in one stream shifts nothing in another, which is what lets a pair (lever and control at
one seed) share its initial weights, batch order, flow times, noise and dropout masks bit for bit.
"""

import hashlib

import numpy as np

SEED_BITS = 63


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream `names` of `seed`. Same arguments, same answer, on every machine."""
    text = "\0".join([str(int(seed)), *map(_spelled, names)])
    raw = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(raw, "little") >> (64 - SEED_BITS)


def _spelled(name: str | int) -> str:
    """One spelling for each name: numpy's integers and texts are the plain ones, and no text can hold the separator."""
    if isinstance(name, str):
        return "str:" + name.replace("\\", "\\\\").replace("\0", "\\0")
    return f"int:{int(name)}"


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator (Philox) for the stream `names` of `seed`."""
    return np.random.Generator(np.random.Philox(key=derive_seed(seed, *names)))
