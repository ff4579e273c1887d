"""A step is a program of tensors: recorded once and replayed at other steps it gives the bits of the plain way."""

import pytest
import torch

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.train.cohort import Cohort
from flowlab.train.data import Batches
from flowlab.train.recorded import WARM_UP, Replayed
from flowlab.train.step import Step
from tests.train.conftest import make_run
from tests.train.tape import tape_of

CPU = torch.device("cpu")
STEPS = 14  # two epochs of six and two more


def changed(run_id: str = "r", seed: int = 1, **changes):
    """A run with settings by dotted key."""
    run = make_run(seed=seed, run_id=run_id)
    tables = run.recipe.model_dump(mode="json")
    for key, value in changes.items():
        table, name = key.split("__")
        tables[table][name] = value
    return type(run)(run_id, "control", seed, type(run.recipe).model_validate(tables))


COHORTS = {
    "one": (changed(),),
    "levers": (
        changed(),
        changed("lr", train__lr=1e-3, train__weight_decay=0.3),
        changed("seed", seed=2, objective__delta_weight=0.0),
        changed("dropout", decoder__dropout=0.4),
    ),
    "average": (changed(train__ema_decay=0.9), changed("other", train__ema_decay=0.5), changed("none")),
    "history": (changed(train__history_dropout=0.4), changed("none", seed=2)),
    "coupled": (changed(objective__coupling="optimal-transport"), changed("free")),
    "residuals": (changed(decoder__dropout_at="residuals"),),
    "regression": (changed(objective__kind="regression", decoder__kind="slot-queries"),),
    "bfloat16": (changed(train__arithmetic="bfloat16"), changed("seed", seed=2, train__arithmetic="bfloat16")),
}


def made(runs, data) -> tuple[Step, Batches]:
    cohort, (num_tokens, width) = Cohort(runs), data.condition.shape[1:]
    spec = ConditionSpec(width, (TokenGroup("tokens", num_tokens),))
    return Step(cohort, spec, *data.action.shape[1:], CPU), Batches(cohort, data)


def go(program, step: Step, batches: Batches, number: int) -> list[torch.Tensor]:
    """One step: its report, and all that it changed."""
    condition, batch = batches.at(number)
    step.begin(number)
    return [value.clone() for value in [*program(condition, batch).values(), *step.state()]]


@pytest.mark.parametrize("runs", COHORTS.values(), ids=COHORTS)
def test_a_replayed_step_has_the_bits_of_the_plain_way(runs, data):
    plain, batches = made(runs, data)
    step, _ = made(runs, data)
    said: list[str] = []
    replayed = Replayed(step, said.append, tape_of(step.state()))
    for number in range(STEPS):
        expected, found = go(plain, plain, batches, number), go(replayed, step, batches, number)
        assert all(map(torch.equal, expected, found)), number
        assert (replayed.replay is not None) == (number >= WARM_UP)
    assert said == []


def test_a_step_that_reads_a_number_of_its_first_time_is_found_out(data):
    """So the test above can fail: here the learning rate is no tensor."""

    class Careless(Step):
        def __call__(self, condition, batch):
            self.optimiser.lr = self.optimiser.lr.clone()
            return super().__call__(condition, batch)

    plain, batches = made(COHORTS["one"], data)
    step, _ = made(COHORTS["one"], data)
    step.__class__ = Careless
    replayed = Replayed(step, print, tape_of(step.state()))
    same = []
    for number in range(STEPS):
        expected, found = go(plain, plain, batches, number), go(replayed, step, batches, number)
        same.append(all(map(torch.equal, expected, found)))
    assert same[: WARM_UP + 1] == [True] * (WARM_UP + 1)
    assert not any(same[WARM_UP + 1 :])


def test_a_replay_that_gives_other_numbers_is_not_believed(data):
    plain, batches = made(COHORTS["levers"], data)
    step, _ = made(COHORTS["levers"], data)
    said: list[str] = []

    def record(program):
        report, replay = tape_of(step.state())(program)
        return report, lambda: (replay(), step.optimiser.flat.weights.data.add_(1e-3))

    replayed = Replayed(step, said.append, record)
    for number in range(STEPS):
        expected, found = go(plain, plain, batches, number), go(replayed, step, batches, number)
        assert all(map(torch.equal, expected, found)), number
    assert len(said) == 1 and "its replay gave other numbers" in said[0]


def test_a_step_that_cannot_be_recorded_is_gone_the_plain_way(data):
    plain, batches = made(COHORTS["one"], data)
    step, _ = made(COHORTS["one"], data)
    said: list[str] = []

    def record(program):
        program()
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore lines")

    replayed = Replayed(step, said.append, record)
    for number in range(STEPS):
        expected, found = go(plain, plain, batches, number), go(replayed, step, batches, number)
        assert all(map(torch.equal, expected, found)), number
    assert said == [
        "A step could not be recorded as a CUDA graph: CUDA out of memory. Training goes on without, more slowly."
    ]


def test_runs_that_share_their_conditions_have_them_once(data):
    runs = (changed(), changed("lr", train__lr=1e-3))
    step, batches = made(runs, data)
    replayed = Replayed(step, print, tape_of(step.state()))
    go(replayed, step, batches, 0)
    condition, batch = replayed.inputs
    assert condition.shape[0] == 2 and condition.stride(0) == 0
    assert batch.action.shape[0] == 2
