"""In how many directions the condition tokens vary: their effective rank."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.cache.cache import Cache, corrupt, open_cache
from flowlab.cache.layout import CHUNK_ROWS
from flowlab.core.digest import has_digest
from flowlab.core.errors import CacheCorruptError
from flowlab.core.progress import SILENT, Progress
from flowlab.core.stores import Place, store_at
from flowlab.core.types import ConditionSpec, MetricRow
from flowlab.core.vocabulary import OVERALL
from flowlab.evaluate.diagnose.diagnosis import Diagnosis, Shown
from flowlab.evaluate.diagnose.plot import BLUE, COLOURS, ORANGE, Plot, grid, legend, sheet

ASKS = "In how many directions do the condition tokens vary, and which of them hardly say anything?"
BLOCK_ROWS = 4096
MOST_NAMED = 16  # positions in the table; the picture has all
LEAST = -4  # of log10 that the picture shows
SAMPLE_CHUNKS = 2
"""Chunk files of a cache that its own line about the rank is taken from."""


class Moments:
    """Count, sum and second moments of vectors of width D, in float64, about a fixed point near their mean."""

    def __init__(self, about: Tensor) -> None:
        self.about = about
        self.num, self.total = 0, torch.zeros_like(about)
        self.second = torch.zeros(len(about), len(about), dtype=torch.float64, device=about.device)

    def add(self, vectors: Tensor) -> None:
        """Take in vectors (n, D)."""
        centred = vectors.double() - self.about
        self.num += len(centred)
        self.total += centred.sum(dim=0)
        self.second += centred.T @ centred

    def merge(self, other: "Moments") -> None:
        """Take in what `other`, about the same point, has seen."""
        self.num, self.total, self.second = self.num + other.num, self.total + other.total, self.second + other.second

    def spectrum(self) -> NDArray[np.float64]:
        """The singular values (D,) of the centred vectors, largest first; what is rounding alone is 0."""
        mean = self.total / max(self.num, 1)
        covariance = self.second - self.num * torch.outer(mean, mean)
        values = torch.linalg.eigvalsh(covariance).flip(0).cpu().numpy()
        largest = max(float(values[0]), 0.0)
        # rounding is relative to what was added up, the mean among it
        scale = max(largest, float(self.second.diagonal().sum()))
        values[values <= len(values) * np.finfo(np.float64).eps * scale] = 0.0
        return np.sqrt(values)


def effective_rank(spectrum: NDArray[np.float64]) -> float:
    """exp of the entropy of the singular values as shares of their sum (Roy & Vetterli, EUSIPCO 2007); 0 of nothing.

    d directions of equal strength have effective rank d; one direction has 1.
    """
    total = spectrum.sum()
    if total <= 0:
        return 0.0
    share = spectrum[spectrum > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def spectra(condition: Tensor, spec: ConditionSpec, progress: Progress = SILENT) -> dict[str, NDArray[np.float64]]:
    """Singular values by what they are of: "overall", each group by its name, each position ("group:1", ...).

    `condition` is (N, S, D). Each set of tokens is centred by its own mean; frames are taken in blocks.
    """
    found: dict[str, NDArray[np.float64]] = {}
    about = condition[:BLOCK_ROWS].double().mean(dim=(0, 1))
    whole, position = Moments(about), 0
    with progress.task("moments of tokens", spec.num_tokens, "tokens") as task:
        for group in spec.groups:
            of_group = Moments(about)
            for place in range(1, group.num_tokens + 1):
                own = Moments(about)
                for start in range(0, len(condition), BLOCK_ROWS):
                    own.add(condition[start : start + BLOCK_ROWS, position])
                of_group.merge(own)
                found[f"{group.name}:{place}"] = own.spectrum()
                position += 1
                task.advance()
            found[group.name] = of_group.spectrum()
            whole.merge(of_group)
    return {OVERALL: whole.spectrum(), **found}


def rank(condition: Tensor, spec: ConditionSpec, progress: Progress = SILENT) -> Diagnosis:
    """The effective rank of condition tokens (N, S, D): of all, of each group, at each position."""
    found = spectra(condition, spec, progress)
    ranks = {name: effective_rank(values) for name, values in found.items()}
    names = [group.name for group in spec.groups]
    places = [name for name in found if name not in (OVERALL, *names)]
    order = [OVERALL, *names, *places]
    rows = [MetricRow("effective_rank", "", name, "", ranks[name]) for name in order]
    columns = ("tokens", "effective rank", "of", "for 90%")
    shown = [[name, ranks[name], spec.width, _for_share(found[name])] for name in (OVERALL, *names)]
    tables = [Shown("effective rank of the condition", columns, shown)]
    weakest = sorted(places, key=lambda name: ranks[name])[:MOST_NAMED]
    tables.append(
        Shown(
            "token by token, the lowest first",
            columns,
            [[n, ranks[n], spec.width, _for_share(found[n])] for n in weakest],
        )
    )
    says = (
        f"The tokens vary in about {ranks[OVERALL]:.1f} of {spec.width} directions (effective rank: exp of the entropy "
        f"of the singular values of the centred tokens, Roy & Vetterli 2007).",
        f"The token that varies in the fewest is {weakest[0]}, in {ranks[weakest[0]]:.1f}.",
    )
    return Diagnosis("rank", ASKS, says, tuple(tables), rows, (_picture(found, ranks, names, places),))


def _for_share(spectrum: NDArray[np.float64], share: float = 0.9) -> int:
    """How many directions hold that share of the variance."""
    variance = np.square(spectrum)
    if variance.sum() == 0:
        return 0
    return int(np.searchsorted(np.cumsum(variance) / variance.sum(), share - 1e-12) + 1)


def cache_rank(cache: Cache) -> tuple[float, int]:
    """The effective rank of a cache's conditions, and of how many train windows: those of a few chunk files.

    The first and the last of them hold other drives, so that it takes a moment whatever the cache's size. Raises
    CacheCorruptError for a file that is not what was written.
    """
    layout = cache.layouts["train/condition/normal"]
    chunks = list(layout.chunks())
    taken = sorted({round(i * (len(chunks) - 1) / max(SAMPLE_CHUNKS - 1, 1)) for i in range(SAMPLE_CHUNKS)})
    blocks = []
    for chunk in (chunks[index] for index in taken):
        content = store_at(cache.path).read(chunk.key)
        if not has_digest(cache.attributes["digests"].get(chunk.key), content):
            raise corrupt(cache.path, f"{chunk.key} is not what was written")
        rows = np.frombuffer(content, layout.dtype).reshape(CHUNK_ROWS, *layout.shape[1:])
        blocks.append(torch.from_numpy(rows[: chunk.num].copy()))
    condition = torch.cat(blocks)
    moments = Moments(condition.double().mean(dim=(0, 1)))
    moments.add(condition.flatten(0, 1))
    return effective_rank(moments.spectrum()), len(condition)


def describe_rank(path: Place) -> dict[str, Any]:
    """The effective rank of the cache at `path`, and over how many windows; None of one that is not what was written.

    `flowlab cache verify` tells what is wrong with it.
    """
    try:
        found, num_windows = cache_rank(open_cache(path))
    except CacheCorruptError:
        return {"effective_rank": None, "rank_windows": 0}
    return {"effective_rank": round(found, 2), "rank_windows": num_windows}


def _picture(
    found: Mapping[str, NDArray[np.float64]], ranks: Mapping[str, float], names: list[str], places: list[str]
) -> str:
    """The spectra of all tokens and of each group, and the rank at each position."""
    sets = [OVERALL, *names]
    parts = legend(62, 18, [(name, COLOURS[i % len(COLOURS)], "") for i, name in enumerate(sets)])
    ((left, top, width),) = grid(1, 1, 240, top=30)
    plot = Plot(left, top, width, 240, (1, max(len(found[OVERALL]), 2)), (LEAST, 0.1))
    plot.axes("how strong each direction is", "direction, the strongest first", "log10, beside the strongest", most=12)
    for index, name in enumerate(sets):
        values = found[name]
        points = [(i + 1.0, math.log10(v / values[0])) for i, v in enumerate(values) if v > 10**LEAST * values[0]]
        plot.curve(points, COLOURS[index % len(COLOURS)], 2)
    top += 240 + 46 + 34
    bars = Plot(left, top, width, 200, (0.4, len(places) + 0.6), (0, 1.1 * max(1.0, *ranks.values())))
    bars.axes("effective rank of each token", "", names=_token_names(places))
    for index, name in enumerate(places):
        bars.bar(index + 1, ranks[name], 0.7, BLUE)
    bars.level(ranks[OVERALL], "all tokens", ORANGE)
    return sheet([*parts, *plot.parts, *bars.parts], top + 200 + 36)


def _token_names(places: list[str]) -> list[tuple[float, str]]:
    """Ticks: the first token of a group has its name, those after it have numbers as far as there is room."""
    named = []
    for index, place in enumerate(places):
        name, _, number = place.rpartition(":")
        if number == "1" or len(places) <= MOST_NAMED:
            named.append((index + 1.0, name if number == "1" else number))
    return named
