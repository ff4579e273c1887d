"""A run whose numbers stop being finite ends alone, with the step and the field named."""

import math
from dataclasses import replace

import pytest
import torch

from flowlab.train.crash import Crash, CrashWatch
from flowlab.train.data import Batches
from flowlab.train.fit import _Training
from tests.train.conftest import equal_weights

NAN = float("nan")


def spoilt(run, part: str, **values):
    """`run` with settings that no study could give it."""
    settings = getattr(run.recipe, part).model_copy(update=values)
    return replace(run, recipe=run.recipe.model_copy(update={part: settings}))


def check_that_it_ends_alone(train, others, struck, crash: Crash) -> None:
    with_it, without = train(others[0], struck, others[1]), train(*others)
    assert with_it.trained.crashed == {1: crash}
    assert 1 not in with_it.rows
    for position, other in ((0, 0), (2, 1)):
        assert equal_weights(with_it, position, without, other)
        assert with_it.rows[position] == without.rows[other]


def test_a_nan_in_one_runs_learning_rate(train, run_of):
    others = run_of(seed=1), run_of(seed=2, delta_weight=0.0)
    check_that_it_ends_alone(train, others, spoilt(run_of(seed=1), "train", lr=NAN), Crash(2, "loss"))


def test_a_nan_in_one_runs_delta_weight(train, run_of):
    others = run_of(seed=1), run_of(seed=2)
    check_that_it_ends_alone(train, others, spoilt(run_of(seed=1), "objective", delta_weight=NAN), Crash(1, "loss"))


@pytest.mark.parametrize("field", ["condition", "action", "noise", "weight"])
def test_a_nan_in_one_runs_data(train, run_of, monkeypatch, field):
    """Run 1 of a cohort of three sees one bad number in its fifth step, whoever it is; alone nobody does."""
    sound = Batches.at

    def at(self, step):
        condition, batch = sound(self, step)
        if step == 4 and self.cohort.size == 3:
            value = condition if field == "condition" else getattr(batch, field)
            value[1, 0] = NAN
        return condition, batch

    monkeypatch.setattr(Batches, "at", at)
    named = "maneuver weight" if field == "weight" else field
    check_that_it_ends_alone(train, (run_of(seed=1), run_of(seed=2)), run_of(seed=3), Crash(5, named))


def test_a_window_that_is_not_finite_is_named_and_not_blamed_on_the_loss(train, run_of, split_of):
    data, validation = split_of(50)
    data.action[7, 2, 1] = NAN
    outcome = train(run_of(), on=(data, validation))
    assert [crash.field for crash in outcome.trained.crashed.values()] == ["action"]
    assert outcome.rows == {}


@pytest.mark.parametrize(("field", "metric"), [("noise", "flow_mse"), ("time_normal", "law_flow_mse")])
def test_a_run_that_explodes_only_at_validation_is_named_so(train, run_of, split_of, field, metric):
    data, validation = split_of(50)
    getattr(validation, field)[3] = NAN
    assert train(run_of(), on=(data, validation)).trained.crashed == {0: Crash(6, f"validation {metric}")}


def test_a_cohort_that_has_crashed_whole_stops(train, run_of, monkeypatch):
    steps, sound = [], _Training.step
    monkeypatch.setattr(_Training, "step", lambda self, step: steps.append(step) or sound(self, step))
    outcome = train(run_of(lr=1e30, steps=60), run_of(lr=1e30, seed=2, steps=60))
    assert list(outcome.trained.crashed) == [0, 1]
    assert len(steps) == 6, "one epoch"
    assert outcome.kept == {}


def test_the_first_bad_number_counts_and_is_told_once():
    watch = CrashWatch(3, torch.device("cpu"))
    watch.look(0, {"loss": torch.tensor([1.0, 1.0, 1.0]), "gradient_norm": torch.tensor([1.0, math.inf, 1.0])})
    watch.look(1, {"loss": torch.tensor([NAN, NAN, 1.0]), "gradient_norm": torch.tensor([NAN, 1.0, 1.0])})
    assert watch.new() == {0: Crash(2, "loss"), 1: Crash(1, "gradient_norm")}
    watch.look(2, {"loss": torch.tensor([NAN, NAN, -math.inf])})
    assert watch.new() == {2: Crash(3, "loss")}
    assert watch.new() == {}
    assert list(watch.crashed) == [0, 1, 2]


def test_a_run_that_has_crashed_is_not_kept_for_later(train, run_of):
    """The first step has learning rate 0, so the loss is not finite from the third on; the epoch has six."""
    outcome = train(run_of(lr=1e30), run_of(), every_step=True)
    assert outcome.trained.crashed == {0: Crash(3, "loss")}
    assert [sorted(outcome.kept[step]) for step in (1, 2, 3, 5, 14)] == [[0, 1], [0, 1], [1], [1], [1]]
