"""The order of an epoch, and the same batches wherever the conditions lie."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlab.cache.build import build_cache
from flowlab.cache.cache import open_cache
from flowlab.cache.conditions import Pinned, Streamed
from flowlab.policy.action_space import fit_action_space
from flowlab.policy.streams import stream
from flowlab.policy.weights import fit_label_density
from flowlab.study.recipe import ActionSpaceSettings
from flowlab.train import order
from flowlab.train.cohort import Cohort, Run, shape_signature
from flowlab.train.data import Batches, train_data
from flowlab.train.order import BLOCK_ROWS, WINDOW_BLOCKS, row_order
from tests.cache.number_encoder import NumberEncoder
from tests.cache.three_drives import SPLIT, VARIANTS, WINDOWS, three_drives

CPU = torch.device("cpu")


@settings(max_examples=40, deadline=None)
@given(num=st.integers(0, 30 * BLOCK_ROWS), seed=st.integers(0, 99), shuffle=st.sampled_from(["rows", "blocks"]))
def test_an_order_has_each_row_once_and_is_the_same_each_time(num: int, seed: int, shuffle: str) -> None:
    first, again = (row_order(shuffle, num, stream(seed, "order", 0)) for _ in range(2))
    assert torch.equal(first.sort().values, torch.arange(num))
    assert torch.equal(first, again)


def test_rows_are_the_order_that_there_was_before_there_were_blocks() -> None:
    before = torch.randperm(5000, generator=stream(3, "order", 1))
    assert torch.equal(row_order("rows", 5000, stream(3, "order", 1)), before)


def test_a_window_of_blocks_needs_no_more_than_its_blocks() -> None:
    """20 whole blocks are three windows; in each the rows are shuffled across its blocks."""
    rows = row_order("blocks", 20 * BLOCK_ROWS, stream(1, "order", 0))
    windows = rows.split(WINDOW_BLOCKS * BLOCK_ROWS)
    held = [set((window // BLOCK_ROWS).tolist()) for window in windows]
    assert [len(blocks) for blocks in held] == [8, 8, 4]
    assert sorted(block for blocks in held for block in blocks) == list(range(20))
    assert len(set((windows[0][:100] // BLOCK_ROWS).tolist())) == WINDOW_BLOCKS
    other = row_order("blocks", 20 * BLOCK_ROWS, stream(2, "order", 0))
    assert set((other[: WINDOW_BLOCKS * BLOCK_ROWS] // BLOCK_ROWS).tolist()) != held[0], (
        "each seed has blocks of its own"
    )


def shuffled(run: Run, shuffle: str) -> Run:
    train = run.recipe.train.model_copy(update={"shuffle": shuffle, "history_dropout": 0.5, "batch": 100})
    return Run(run.run_id, run.lever, run.seed, run.recipe.model_copy(update={"train": train}))


def test_runs_of_two_orders_are_no_cohort(run_of) -> None:
    signatures = {shape_signature(shuffled(run_of(), shuffle).recipe) for shuffle in ("rows", "blocks")}
    assert len(signatures) == 2


@pytest.mark.parametrize("shuffle", ["rows", "blocks"])
def test_resident_pinned_and_streamed_give_the_same_batches(
    tmp_path: Path, run_of, monkeypatch: pytest.MonkeyPatch, shuffle: str
) -> None:
    """Two epochs of two seeds, with the history dropped from half of the samples; a window is two chunk files."""
    monkeypatch.setattr(order, "WINDOW_BLOCKS", 2)
    cache = open_cache(build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(), VARIANTS, tmp_path))
    raw = cache.split("train", variants=()).action
    space = fit_action_space(ActionSpaceSettings(), cache.channels, raw)
    density = fit_label_density(space.to_physical(raw))
    resident = [cache.condition("train", variant) for variant in ("normal", "no-history")]
    pinned = [Pinned(condition, CPU) for condition in resident]
    layouts = [cache.condition_layout("train", variant) for variant in ("normal", "no-history")]
    digests = cache.attributes["digests"]
    streamed, row_by_row = (
        [Streamed(cache.path, layout, digests, CPU, (0, 1), most_chunks) for layout in layouts]
        for most_chunks in (2, 0)
    )
    cohort = Cohort((shuffled(run_of(seed=1), shuffle), shuffled(run_of(seed=2), shuffle)))
    first, *others = (
        Batches(cohort, train_data(normal, raw, space, density, None, without))
        for normal, without in (resident, pinned, streamed, row_by_row)
    )
    assert first.steps_per_epoch == 21
    for step in range(42):
        condition, batch = first.at(step)
        for other in others:
            found, of_step = other.at(step)
            assert torch.equal(found, condition)
            assert torch.equal(of_step.action, batch.action)
            assert torch.equal(of_step.weight, batch.weight)
    assert len(streamed[0]._kept) == 2
