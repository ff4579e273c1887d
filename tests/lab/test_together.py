"""Runs train together where that pays, and are the same runs either way (tests/train/test_mixed_cohort.py)."""

import torch

from flowlab.lab.ground import open_ground
from flowlab.lab.together import MOST_FLOATS, cohorts_of
from flowlab.study.study import Study
from flowlab.train.cohort import Run
from tests.lab.small_study import CPU


def sizes(study: Study, batch: int, device: torch.device = CPU, *, is_known: bool = True) -> list[int]:
    cache = open_ground(study, []).control.cache
    train = study.control.train.model_copy(update={"batch": batch})
    recipe = study.control.model_copy(update={"train": train})
    runs = [Run(f"run-{seed}", "control", seed, recipe) for seed in range(5)]
    return [cohort.size for cohort in cohorts_of(runs, cache if is_known else None, device)]


def test_small_runs_train_together_and_large_ones_alone_on_a_cpu(whole: Study) -> None:
    cache = open_ground(whole, []).control.cache
    a_frame = (cache.spec.num_tokens + cache.horizon) * whole.control.decoder.width
    assert sizes(whole, 4) == [5]
    assert sizes(whole, MOST_FLOATS // a_frame // 2) == [2, 2, 1]
    assert sizes(whole, MOST_FLOATS // a_frame + 1) == [1] * 5


def test_a_gpu_takes_all_at_once_and_so_does_a_cache_that_nobody_knows(whole: Study) -> None:
    assert sizes(whole, 10**6, torch.device("cuda")) == [5]
    assert sizes(whole, 10**6, is_known=False) == [5]
