import math

import pytest
import torch

from flowlab.core.errors import StudyError
from flowlab.policy.decoder import run_weights
from flowlab.train.checkpoint import load_resume, save_resume
from flowlab.train.cohort import Cohort
from flowlab.train.crash import Crash
from flowlab.train.fit import Listener, fit
from tests.train.conftest import equal_weights

EPOCH_ENDS = [6, 12, 14]  # six steps an epoch, 14 steps
METRICS = ["loss", "flow_mse", "delta_mse", "lds_weight", "gradient_norm", "pe_drift", "lr"]
VALIDATED = [
    ("flow_mse", "overall"),
    *(("flow_mse", f"time:{bucket}") for bucket in range(1, 9)),
    ("law_flow_mse", "overall"),
]


def levers(run_of, **shape):
    return (
        run_of(seed=1, run_id="control", **shape),
        run_of(seed=1, run_id="delta-off", delta_weight=0.0, **shape),
        run_of(seed=2, run_id="lr-half", lr=1.5e-3, dropout=0.0, **shape),
        run_of(seed=3, run_id="lds-off", alpha=0.0, **shape),
    )


def test_a_run_in_a_cohort_equals_the_run_alone(train, run_of):
    runs = levers(run_of)
    together = train(*runs)
    for position, run in enumerate(runs):
        alone = train(run)
        assert equal_weights(together, position, alone, 0), run.run_id
        assert together.rows[position] == alone.rows[0], run.run_id


@pytest.mark.parametrize(("width", "batch"), [(64, 64), (128, 16), (12, 7)])
def test_a_run_in_a_cohort_equals_the_run_alone_at_other_shapes(train, run_of, split_of, width, batch):
    on = split_of(2 * batch + 7, horizon=6, tokens=12, width=96)
    runs = levers(run_of, width=width, batch=batch, steps=3)
    together = train(*runs, on=on)
    for position in (0, 3):
        alone = train(runs[position], on=on)
        assert equal_weights(together, position, alone, 0)
        assert together.rows[position] == alone.rows[0]


def test_every_lever_of_the_cohort_moves_its_run(train, run_of):
    control = train(run_of())
    for change in ({"delta_weight": 0.0}, {"lr": 1.5e-3}, {"dropout": 0.0}, {"alpha": 0.0}, {"cap": 1.0}, {"seed": 2}):
        assert not equal_weights(control, 0, train(run_of(**change)), 0), change


def test_a_placebo_equals_its_control_exactly(train, run_of):
    both = train(run_of(run_id="control"), run_of(seed=4), run_of(run_id="placebo"))
    assert equal_weights(both, 0, both, 2)
    assert both.rows[0] == both.rows[2]
    assert both.rows[0] != both.rows[1]


def test_training_lowers_flow_mse(train, run_of):
    rows = train(run_of(steps=120)).rows[0]
    values = [row.value for row in rows if (row.metric, row.slice) == ("flow_mse", "overall")]
    assert values[-1] < 0.9 * values[0]


def test_each_epoch_reports_its_last_step_and_the_validation_error(train, run_of):
    rows = train(run_of()).rows[0]
    told = [(row.metric, row.step) for row in rows if row.slice == "train"]
    assert told == [(name, step) for step in EPOCH_ENDS for name in METRICS]
    validated = [(row.metric, row.slice, row.step) for row in rows if row.slice != "train"]
    assert validated == [(name, where, step) for step in EPOCH_ENDS for name, where in VALIDATED]
    rates = [row.value for row in rows if row.metric == "lr"]
    expected = [3e-3 * (1 + math.cos(math.pi * (step - 1 - 3) / 11)) / 2 for step in EPOCH_ENDS]
    assert rates == pytest.approx(expected, rel=1e-9)


def test_a_resumed_run_equals_one_that_was_never_interrupted(train, run_of, tmp_path):
    whole = train(*levers(run_of), every_step=True)
    assert sorted(whole.kept) == list(range(1, 15))
    for position, state in whole.kept[7].items():
        save_resume(tmp_path / str(position), state, "run")
    states = [load_resume(tmp_path / str(position), "run", 99) for position in range(4)]
    resumed = train(*levers(run_of), resume=states)
    for position in range(4):
        assert equal_weights(resumed, position, whole, position)
        assert resumed.rows[position] == [row for row in whole.rows[position] if row.step > 7]


def test_a_run_of_a_cohort_resumes_alone(train, run_of):
    whole = train(*levers(run_of), every_step=True)
    alone = train(levers(run_of)[2], resume=[whole.kept[7][2]])
    assert equal_weights(alone, 0, whole, 2)
    assert alone.rows[0] == [row for row in whole.rows[2] if row.step > 7]


def test_resuming_after_the_last_step_trains_no_more(train, run_of):
    whole = train(run_of())
    again = train(run_of(), resume=[whole.kept[14][0]])
    assert equal_weights(again, 0, whole, 0)
    assert again.rows == {}


def test_what_is_kept_at_the_end_are_the_trained_weights(train, run_of):
    whole = train(run_of(), run_of(seed=2))
    assert list(whole.kept) == [14]
    for run, state in whole.kept[14].items():
        weights = run_weights(whole.trained.decoder, run)
        assert all(torch.equal(weight, state.weights[name]) for name, weight in weights.items())


def test_a_run_that_diverges_ends_alone(train, run_of):
    first, _, third, fourth = levers(run_of)
    diverging = run_of(run_id="diverging", lr=1e30)
    with_it, without = train(first, diverging, third, fourth), train(first, third, fourth)
    assert with_it.trained.crashed == {1: Crash(3, "loss")}  # the first step has learning rate 0
    assert without.trained.crashed == {}
    for position, other in ((0, 0), (2, 1), (3, 2)):
        assert equal_weights(with_it, position, without, other)
        assert with_it.rows[position] == without.rows[other]


def test_a_run_that_diverged_reports_and_keeps_nothing_more(train, run_of):
    both = train(run_of(lr=1e30), run_of())
    assert 0 not in both.rows
    assert list(both.kept[14]) == [1]


def test_a_batch_larger_than_the_split_is_an_error(data, validation, run_of):
    with pytest.raises(StudyError, match=r"train.batch is 64, and the train split has 50 windows only"):
        fit(Cohort((run_of(batch=64),)), data, validation, Listener(print, print, print))


def test_progress_counts_every_step(data, validation, run_of):
    class Counts:
        def __init__(self):
            self.done, self.opened = 0, None

        def task(self, what, total, unit):
            self.opened = (what, total, unit)
            return self

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def advance(self, count=1):
            self.done += count

        def say(self, message):
            raise AssertionError(message)

    seen = Counts()
    cohort = Cohort((run_of(), run_of(seed=2)))
    fit(cohort, data, validation, Listener(*[lambda *_: None] * 3), progress=seen)
    assert (seen.opened, seen.done) == (("train 2 runs", 14, "steps"), 14)


def test_training_leaves_the_global_generator_alone(train, run_of):
    before = torch.get_rng_state()
    train(run_of())
    assert torch.equal(torch.get_rng_state(), before)
