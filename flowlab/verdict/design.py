"""Two-level designs: which levers are on in which row of a screen, and what an effect is a weighted sum of.

Where every lever combines with every other, rows come from a Hadamard matrix (Plackett and Burman, Biometrika 1946):
each effect is then told as precisely as if all rows were spent on it alone. Where some exclude each other, or there are
so few that its rows would be levers alone, rows are D-optimal by coordinate exchange (Meyer and Nachtsheim,
Technometrics 1995). Both are short, and need no library.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import count
from math import isqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import StudyError
from flowlab.core.seeds import numpy_stream

SPARE_ROWS = 5
"""Rows beyond the number of levers: one for the mean, four that may crash before levers can no longer be told apart."""

FEWEST_LEVERS = 4
"""With fewer, rows would have to be the control or a lever alone, and to try one at a time takes fewer runs."""

SIGN_TRIES = 1000
STARTS = 4
PASSES = 50
RIDGE = 1e-6  # keeps the exchange going where rows do not yet tell all levers apart


@dataclass(frozen=True)
class Design:
    """`on`: (rows, levers), whether a lever is on in a row."""

    on: NDArray[np.bool_]
    kind: Literal["hadamard", "d-optimal"]

    @property
    def num_rows(self) -> int:
        return len(self.on)


def choose_design(
    num_levers: int, conflicts: Collection[tuple[int, int]] = (), num_rows: int | None = None, seed: int = 0
) -> Design:
    """The design for so many levers of which the pairs `conflicts` are never on together, the same for the same `seed`.

    No row has all levers off, one alone, or all on. `num_rows`: at least so many; without it a few more than levers.
    Raises StudyError for too few levers or rows, and for levers that no rows tell apart.
    """
    if num_levers < FEWEST_LEVERS:
        raise StudyError(
            f"a screen needs {FEWEST_LEVERS} levers that can be on together, and here are {num_levers}. "
            f"Run them one at a time: flowlab run --lever NAME --seeds 1001"
        )
    if num_rows is not None and num_rows <= num_levers:
        raise StudyError(
            f"{num_rows} rows cannot tell {num_levers} levers apart: each takes one, and their mean one more. "
            f"Ask for {num_levers + 1} or more, or leave levers out."
        )
    order = hadamard_order(num_rows or num_levers + SPARE_ROWS)
    stream = numpy_stream(seed, "screen")
    mixed = None if conflicts else _from_hadamard(num_levers, order, stream)
    if mixed is not None:
        return Design(mixed, "hadamard")
    excluded = np.zeros((num_levers, num_levers), dtype=bool)
    for one, other in conflicts:
        excluded[one, other] = excluded[other, one] = True
    return Design(_d_optimal(excluded, num_rows or order, stream), "d-optimal")


def contrast_weights(on: NDArray[np.bool_], without: Collection[int] = ()) -> NDArray[np.float64]:
    """The least-squares weights (levers, rows): turning a lever on changes the value by `weights @ values`.

    Rows `without` a value weigh 0. A lever that the others cannot be told from has NaN throughout. The standard error
    of an effect is sigma times the root of the sum of its squared weights.
    """
    rows = np.setdiff1d(np.arange(len(on)), list(without))
    model = np.column_stack([np.ones(len(rows)), on[rows]])
    inverse = np.linalg.pinv(model, rcond=1e-9)
    weights = np.zeros((on.shape[1], len(on)))
    weights[:, rows] = inverse[1:]
    told = np.isclose(inverse @ model, np.eye(model.shape[1]), atol=1e-6).all(axis=1)
    weights[~told[1:]] = np.nan
    return weights


def hadamard_order(least: int) -> int:
    """The smallest order, `least` or more, of which `hadamard` makes a matrix; up to 100 it lacks only 92."""
    return next(order for order in count(least) if _can_make(order))


def hadamard(order: int) -> NDArray[np.int64]:
    """A matrix H of -1 and 1 with H H' = order x I, for an order that `hadamard_order` gives.

    Paley's constructions come first: in a doubled matrix each column is exactly the product of two others, so that an
    interaction would look like one lever's effect; in Paley's it is spread thinly over all.
    """
    if order <= 2:
        return np.array([[1, 1], [1, -1]])[:order, :order]
    if _is_field(order - 1) and order % 4 == 0:
        return np.eye(order, dtype=int) + _bordered(order - 1, -1)
    if order % 4 == 0 and _is_field(order // 2 - 1) and order % 8 == 4:
        conference = _bordered(order // 2 - 1, 1)
        return np.kron(conference, [[1, 1], [1, -1]]) + np.kron(np.eye(order // 2, dtype=int), [[1, -1], [-1, -1]])
    return np.kron([[1, 1], [1, -1]], hadamard(order // 2))


def _can_make(order: int) -> bool:
    if order <= 2:
        return order >= 1
    paley = _is_field(order - 1) or (order % 8 == 4 and _is_field(order // 2 - 1))
    return order % 4 == 0 and (paley or _can_make(order // 2))


def _is_field(size: int) -> bool:
    """Whether `size` is an odd prime, or the square of one: the fields that `_bordered` reckons in."""
    root = isqrt(size)
    return _is_odd_prime(size) or (root * root == size and _is_odd_prime(root))


def _is_odd_prime(number: int) -> bool:
    return number > 2 and all(number % divisor for divisor in range(2, isqrt(number) + 1))


def _bordered(size: int, corner: int) -> NDArray[np.int64]:
    """Paley's matrix of quadratic characters of differences in the field of `size`, a border around it.

    In the field of p squared, a + b sqrt(n) is a square where its norm a^2 - n b^2 is one modulo p.
    """
    prime = size if _is_odd_prime(size) else isqrt(size)
    character = np.full(prime, -1)
    character[np.arange(prime) ** 2 % prime] = 1
    character[0] = 0
    a, b = np.arange(size) % prime, np.arange(size) // prime
    da, db = np.subtract.outer(a, a), np.subtract.outer(b, b)
    no_square = int(np.argmin(character))  # its character is -1
    found = np.zeros((size + 1, size + 1), dtype=int)
    found[0, 1:], found[1:, 0] = 1, corner
    found[1:, 1:] = character[(da**2 - no_square * db**2) % prime] if prime < size else character[da % prime]
    return found


def _from_hadamard(num_levers: int, order: int, stream: np.random.Generator) -> NDArray[np.bool_] | None:
    """Columns of a Hadamard matrix whose first is all ones, their signs turned until every row is a true mixture.

    None where that was not found: of few columns, every combination is among the rows.
    """
    matrix = hadamard(order)
    matrix = matrix * matrix[:, :1]
    for _ in range(SIGN_TRIES):
        columns = stream.permutation(np.arange(1, order))[:num_levers]
        on = matrix[:, columns] * stream.choice([-1, 1], num_levers) > 0
        if _are_mixtures(on).all():
            return on
    return None


def _are_mixtures(on: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """For each row, whether it is neither the control, nor one lever alone, nor all of them."""
    num_on = on.sum(axis=1)
    return (num_on >= 2) & (num_on < on.shape[1])


def _d_optimal(excluded: NDArray[np.bool_], num_rows: int, stream: np.random.Generator) -> NDArray[np.bool_]:
    """The rows, the best of several starts, that tell all effects most precisely while no excluded pair is on."""
    starts = [_exchanged(_random_rows(excluded, num_rows, stream), excluded) for _ in range(STARTS)]
    models = [np.column_stack([np.ones(num_rows), on]) for on in starts]
    best = int(np.argmax([np.linalg.slogdet(model.T @ model)[1] for model in models]))
    if np.linalg.matrix_rank(models[best]) <= len(excluded):
        raise StudyError(
            f"no {num_rows} rows were found that tell these {len(excluded)} levers apart, so many of them exclude each "
            f"other. Screen fewer, or ask for more rows."
        )
    return starts[best]


def _random_rows(excluded: NDArray[np.bool_], num_rows: int, stream: np.random.Generator) -> NDArray[np.bool_]:
    """Rows of levers that can be on together, two or more, each thrown in by a coin."""
    ones, others = np.nonzero(~excluded & ~np.eye(len(excluded), dtype=bool))
    if not len(ones):
        raise StudyError("every lever excludes every other: none can be on together. Run them one at a time.")
    on = np.zeros((num_rows, len(excluded)), dtype=bool)
    for row in on:
        pair = stream.integers(len(ones))
        row[[ones[pair], others[pair]]] = True
        for lever in stream.permutation(len(excluded)):
            row[lever] |= stream.random() < 0.5 and not excluded[lever, row].any()
        row[stream.integers(len(row))] &= not row.all()
    return on


def _exchanged(on: NDArray[np.bool_], excluded: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The rows after turning, one at a time, whatever lever makes the determinant larger, until none does."""
    on = on.copy()
    for _ in range(PASSES):
        model = np.column_stack([np.ones(len(on)), on])
        inverse = np.linalg.inv(model.T @ model + RIDGE * np.eye(model.shape[1]))
        changed = False
        for index, row in enumerate(on):
            moves = _moves(row, excluded)
            candidates = np.column_stack([np.ones(len(moves)), moves])
            now = np.append(1.0, row)
            along = inverse @ now
            left = inverse + np.outer(along, along) / (1 - now @ along)  # without this row
            gains = np.einsum("ij,ij->i", candidates @ left, candidates)
            best = int(np.argmax(gains)) if len(moves) else 0
            if not len(moves) or gains[best] <= (now @ left @ now) * (1 + 1e-6) + 1e-9:
                continue
            on[index], changed = moves[best], True
            along = left @ candidates[best]
            inverse = left - np.outer(along, along) / (1 + gains[best])
        if not changed:
            break
    return on


def _moves(row: NDArray[np.bool_], excluded: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The rows that turning one lever makes of `row`: one turned on turns off those that it excludes."""
    moves = np.where(np.eye(len(row), dtype=bool), ~row, row & ~(excluded & ~row[:, None]))
    return moves[_are_mixtures(moves)]
