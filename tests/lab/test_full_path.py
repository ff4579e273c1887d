"""The full path beside the cache: the same conditions to half precision, the same run but for that, never judged."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from flowlab.core.errors import MissingError, UnknownNameError
from flowlab.core.progress import Silent, Task
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import CONTROL, FULL_PATH
from flowlab.evaluate.frames import read_frames
from flowlab.lab.full_path import Confirmed, confirm
from flowlab.lab.ground import open_ground, prepare_stats
from flowlab.lab.in_loop import load_in_loop
from flowlab.lab.launch import Where
from flowlab.ledger.connection import read
from flowlab.report.campaign import read_campaign
from flowlab.report.cards import read_cards
from flowlab.study.study import Study, load_study
from flowlab.train.cohort import Cohort, Run
from flowlab.train.data import train_data
from flowlab.train.fit import Listener, fit
from flowlab.train.validate import validation_data
from tests.cli.tiny_study import flowlab_here
from tests.lab.small_study import CPU, Said

HALF = 2.0**-11
"""The largest relative error of rounding to half precision, beyond 2^-14; below that the error is 2^-25 at most."""


@pytest.fixture(scope="module")
def study(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Finished runs, to which full paths are added."""
    return load_study(Path(shutil.copytree(finished.root, tmp_path_factory.mktemp("full") / "study")))


@pytest.fixture
def other(finished: Study, tmp_path: Path) -> Study:
    """Finished runs, for one test to change."""
    return load_study(Path(shutil.copytree(finished.root, tmp_path / "study")))


def confirmed(study: Study, lever: str | None = None, seed: int | None = None, progress: Silent | None = None):
    where = Where(CPU, "inline")
    return confirm(study, lever, seed, where, progress=progress or Silent(), announce=lambda _: None)


def folders(study: Study) -> set[str]:
    return {path.name for path in study.runs.iterdir()}


@pytest.mark.parametrize("variant", ["normal", "no-history"])
def test_conditions_in_the_loop_are_those_of_the_cache_before_they_were_rounded(study: Study, variant: str) -> None:
    cache = open_ground(study).control.cache
    tokens = list(range(cache.spec.num_tokens))
    _, conditions, val = load_in_loop(study, cache, study.base.inputs, tokens, CPU, Silent())
    rows = torch.tensor([5, 0, 5, len(conditions[variant]) - 1])
    found, expected = conditions[variant].index_select(0, rows), cache.split("train").condition[variant][rows].float()
    assert found.dtype == torch.float32 and not found.requires_grad
    assert not torch.equal(found, found.half().float())  # it was never rounded
    # one half of the last place, and a little for products that are rounded otherwise in a block of another size
    near = {"rtol": HALF * 1.01, "atol": 2e-6}
    torch.testing.assert_close(found, expected, **near)
    torch.testing.assert_close(val.condition["normal"], cache.split("val").condition["normal"].float(), **near)


def test_fifty_steps_of_both_have_one_loss_curve_to_half_precision(study: Study) -> None:
    """Conditions differ by 2^-11 of themselves at most, and in 50 steps of training no loss differs by more of itself.

    With a batch of the whole split an epoch is one step, so that every step is reported.
    """
    cache = open_ground(study).control.cache
    stats = prepare_stats(study, cache, study.control)
    tokens = list(range(cache.spec.num_tokens))
    train, in_loop, val = load_in_loop(study, cache, study.base.inputs, tokens, CPU, Silent())
    cached, cached_val = cache.split("train"), cache.split("val")
    settings = study.control.train.model_copy(update={"steps": 50, "batch": len(train), "warmup_steps": 5})
    recipe = study.control.model_copy(update={"train": settings})
    sides = ((cached.condition, cached_val), (in_loop, val))

    def losses(conditions, validated) -> list[float]:
        rows: list[MetricRow] = []
        frames = read_frames(validated, cache.channels)
        listener = Listener(record=lambda _, new: rows.extend(new), keep=lambda *_: None, crashed=lambda *_: None)
        fit(
            Cohort((Run("run", CONTROL, 1001, recipe),)),
            train_data(conditions["normal"], train.action, stats.space, stats.density),
            validation_data(frames.condition[:4], torch.from_numpy(frames.truth[:4]), stats.space, 0),
            listener,
        )
        return [row.value for row in rows if row.metric == "loss"]

    ours, theirs = (losses(*side) for side in sides)
    assert len(ours) == 50 and ours[0] / ours[-1] > 1.5  # it has learnt
    apart = max(abs(a / b - 1) for a, b in zip(ours, theirs, strict=True))
    assert 0 < apart < HALF


def test_a_full_path_is_recorded_compared_and_no_evidence(study: Study) -> None:
    owed = read(study.ledger, "select * from verdicts order by all").rows
    found = confirmed(study)
    assert isinstance(found, Confirmed) and (found.lever, found.seed, found.is_new) == (CONTROL, 1001, True)
    assert found.cached_run_id.startswith("control-1001-") and found.run_id != found.cached_run_id
    assert found.full_path is not None and found.reason is None
    assert 0 < abs(found.full_path - found.cached) < 1e-3 and found.difference == found.full_path - found.cached
    assert found.panel_count == 2 and found.panel_sd is not None and found.panel_sd > 1e-3
    assert found.num_losses == 1 and found.loss_step == 2
    assert found.loss_difference is not None and found.loss_there is not None
    assert found.loss_difference < 4 * HALF * found.loss_there
    question = "select purpose, status, is_evidence from told_runs where run_id = ?"
    assert read(study.ledger, question, [found.run_id]).rows == [(FULL_PATH, "finished", False)]
    runs = [run for card in read_cards(read_campaign(study)) for run in card.runs if run.run["run_id"] == found.run_id]
    assert [run.command for run in runs] == ["flowlab confirm stack --seed 1001"]
    assert read(study.ledger, "select * from verdicts order by all").rows == owed


def test_given_again_it_trains_nothing_and_says_the_same(study: Study) -> None:
    first, said = confirmed(study), Said()
    again = confirmed(study, progress=said)
    assert not again.is_new and again.full_path == first.full_path
    assert not any("train" in line for line in said.lines)


def test_the_command_shows_both_runs_and_what_their_difference_is_worth(study: Study) -> None:
    shown = flowlab_here(study.root, "confirm", "stack", "--device", "cpu").stdout
    assert "from the cache" in shown and "full path" in shown and "2 controls" in shown
    assert "no more than another seed would: confirmed" in shown.replace("\n", " ")
    told = json.loads(flowlab_here(study.root, "confirm", "control", "--seed", "1001", "--json").stdout)
    assert told["difference"] == told["full_path"] - told["cached"]
    assert told["primary"]["slice"] == "spike_frame"


def test_what_is_told_is_beside_the_panel_s_sd(study: Study) -> None:
    one = replace(confirmed(study), cached=0.30, panel_sd=0.01, loss_difference=0.002, loss_there=1.5)
    near, far = replace(one, full_path=0.305), replace(one, full_path=0.32)
    assert "differ by 0.005, 0.50 panel sd, no more than another seed would: confirmed." in near.told()
    assert "differ by 0.02, 2.00 panel sd, more than another seed would: look at both." in far.told()
    assert near.told().endswith("at most 0.002 apart, after 2 steps, where the loss is 1.5 (1 epochs compared).")
    assert "no panel on this base" in replace(near, panel_sd=None).told()
    assert (
        "crashed (not finite), and its cached run did not" in replace(one, full_path=None, reason="not finite").told()
    )


def test_a_lever_is_confirmed_on_its_own_recipe(study: Study) -> None:
    found = confirmed(study, "regression")
    assert found.seed == 1001 and found.run_id.startswith("regression-1001-")
    assert found.full_path is not None and abs(found.full_path - found.cached) < 1e-3


class Stopping(Said):
    """Progress that stops the process, as Ctrl-C does, after one step of training."""

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Task]:
        class OneStep:
            done = 0

            def advance(self, count: int = 1) -> None:
                self.done += count
                if what.startswith("train ") and self.done == 2:
                    raise KeyboardInterrupt

        yield OneStep()


def test_stopped_after_a_step_it_goes_on_from_there_and_ends_with_the_same_policy(study: Study, other: Study) -> None:
    expected = confirmed(study, "rungs")
    with patch("flowlab.train.fit.RESUME_EVERY_S", 0.0), pytest.raises(KeyboardInterrupt):
        confirmed(other, "rungs", progress=Stopping())
    assert (other.runs / expected.run_id / "resume.safetensors").exists()
    found = confirmed(other, "rungs")
    assert found.is_new and found.run_id == expected.run_id and found.full_path == expected.full_path
    policies = [(one.runs / found.run_id / "policy.safetensors").read_bytes() for one in (study, other)]
    assert policies[0] == policies[1]
    events = read(other.ledger, "select detail from events where run_id = ? and what = 'resumed'", [found.run_id])
    assert events.rows == [("from step 1",)]


def test_without_a_cached_run_it_says_which_command_trains_one(study: Study) -> None:
    before = folders(study)
    with pytest.raises(MissingError, match=r"\(there is one at seed 1001\). Train it: flowlab run --lever regression"):
        confirmed(study, "regression", 1002)
    assert folders(study) == before


def test_recordings_encoder_and_memory_are_asked_for_before_anything_is_registered(other: Study) -> None:
    before = folders(other)
    with pytest.raises(UnknownNameError, match="'regression'"):
        confirmed(other, "regresion")
    with (
        patch("flowlab.lab.in_loop.free_memory", lambda: 1000),
        pytest.raises(MissingError, match=r"frames of 16 x 16 in main memory, 0.0 GB, and 0.0 GB are free"),
    ):
        confirmed(other, seed=1002)
    shutil.move(other.caches / "encoders", other.root / "away")
    with pytest.raises(MissingError, match="not in caches/encoders, and the full path encodes windows anew"):
        confirmed(other, seed=1002)
    assert folders(other) == before


def test_scored_again_a_full_path_is_a_scoring_of_its_own_and_no_evidence(study: Study) -> None:
    found = confirmed(study)
    scored = json.loads(
        flowlab_here(study.root, "evaluate", found.run_id, found.cached_run_id, "--draws", "3", "--json").stdout
    )
    assert len({one["run_id"] for one in scored}) == 2
    question = "select run_id from told_runs where list_contains(?, run_id) and purpose is not null"
    told = read(study.ledger, question, [[one["run_id"] for one in scored]]).rows
    assert told == [(scored[0]["run_id"],)]
