"""Which runs train as one cohort."""

from collections.abc import Sequence

import torch

from flowlab.cache.cache import Cache
from flowlab.policy.build import seen_tokens
from flowlab.study.recipe import Recipe
from flowlab.train.cohort import Cohort, Run, group_into_cohorts

MOST_FLOATS = 2**21
"""How many numbers one layer may have over all runs of a cohort on a CPU. What is larger leaves the processor's caches:
at the demo's size (147,456 a run) four runs together take 0.7 to 0.8 of their time alone, at the published one (4.7
million) 1.0 to 1.2 of it (docs/benchmarks.md)."""


def cohorts_of(runs: Sequence[Run], cache: Cache | None, device: torch.device) -> list[Cohort]:
    """Runs of one shape and cache together, as many as pay: on a GPU all, on a CPU by how large they are.

    Without a cache that is known, all of a shape. A run's bits do not depend on it.
    """
    shapes = group_into_cohorts(runs, largest=max(1, len(runs)))
    if cache is None or device.type != "cpu":
        return shapes
    return [part for whole in shapes for part in group_into_cohorts(whole.runs, _most(whole.shape, cache))]


def _most(recipe: Recipe, cache: Cache) -> int:
    spec, _ = seen_tokens(recipe.decoder, cache.spec)
    tokens = spec.num_tokens + (recipe.decoder.horizon or cache.horizon)
    return max(1, MOST_FLOATS // (recipe.train.batch * tokens * recipe.decoder.width))
