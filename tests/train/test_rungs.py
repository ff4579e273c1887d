"""Policies that are kept on the way: when, of whom, and that nobody notices."""

from collections import defaultdict
from dataclasses import dataclass, field, replace

import pytest
import torch

from flowlab.core.types import MetricRow
from flowlab.train.checkpoint import Resume, policy_of, rung_file, rung_steps
from flowlab.train.cohort import Cohort, Run
from flowlab.train.crash import Crash
from flowlab.train.data import Batches
from flowlab.train.fit import Listener, Trained, fit


def keeping(run: Run, every: int, **changes) -> Run:
    """`run`, which keeps a policy each `every` epochs. Six steps are an epoch, and 14 the whole run."""
    settings = run.recipe.train.model_copy(update={"keep_every": every, **changes})
    return replace(run, recipe=run.recipe.model_copy(update={"train": settings}))


@dataclass(repr=False)
class Heard:
    """What a listener was told, by the run's position."""

    trained: Trained | None = None
    rows: dict[int, list[MetricRow]] = field(default_factory=lambda: defaultdict(list))
    rungs: dict[int, dict[int, dict[str, torch.Tensor]]] = field(default_factory=lambda: defaultdict(dict))  # by step
    resumes: dict[int, Resume] = field(default_factory=dict)

    def listener(self) -> Listener:
        def rung(run: int, step: int, policy: dict[str, torch.Tensor]) -> None:
            assert step not in self.rungs[run], "once"
            self.rungs[run][step] = {name: weight.clone() for name, weight in policy.items()}

        def keep(run: int, state: Resume) -> None:
            self.resumes[run] = state

        return Listener(lambda run, rows: self.rows[run].extend(rows), keep, lambda run, crash: None, rung)


@pytest.fixture
def climb(data, validation):
    def run_fit(*runs: Run) -> Heard:
        heard = Heard()
        heard.trained = fit(Cohort(runs), data, validation, heard.listener())
        return heard

    return run_fit


@pytest.mark.parametrize(("every", "steps"), [(0, []), (1, [6, 12]), (2, [12]), (3, [])])
def test_a_rung_is_kept_at_the_end_of_each_such_epoch_and_not_at_the_very_end(climb, run_of, every, steps):
    heard = climb(keeping(run_of(), every))
    assert list(heard.rungs[0]) == steps


def test_the_last_step_has_no_rung_where_it_ends_an_epoch(climb, run_of):
    assert list(climb(keeping(run_of(steps=12), 1)).rungs[0]) == [6]


def test_keeping_changes_no_row_and_no_weight(climb, run_of):
    with_rungs, without = climb(keeping(run_of(), 1)), climb(run_of())
    assert with_rungs.rows == without.rows
    last = policy_of(without.trained.decoder, 0)
    assert all(torch.equal(weight, last[name]) for name, weight in policy_of(with_rungs.trained.decoder, 0).items())


def test_a_run_with_an_average_keeps_the_average(climb, run_of):
    averaged, plain = climb(keeping(run_of(), 1, ema_decay=0.9)), climb(keeping(run_of(), 1))
    assert any(not torch.equal(averaged.rungs[0][6][name], weight) for name, weight in plain.rungs[0][6].items())


def test_a_rung_of_a_run_in_a_cohort_is_that_of_the_run_alone(climb, run_of):
    both, alone = climb(keeping(run_of(seed=1), 1), keeping(run_of(seed=2), 1)), climb(keeping(run_of(seed=2), 1))
    for step in (6, 12):
        assert all(torch.equal(weight, alone.rungs[0][step][name]) for name, weight in both.rungs[1][step].items())


def test_a_run_that_crashes_later_has_the_rungs_until_then_and_no_more(climb, run_of, monkeypatch):
    sound = Batches.at

    def at(self, step):
        condition, batch = sound(self, step)
        if step == 8:
            batch.noise[1, 0] = float("nan")
        return condition, batch

    monkeypatch.setattr(Batches, "at", at)
    heard = climb(keeping(run_of(seed=1), 1), keeping(run_of(seed=2), 1))
    assert heard.trained.crashed == {1: Crash(9, "noise")}
    assert (list(heard.rungs[0]), list(heard.rungs[1])) == ([6, 12], [6])
    assert all(torch.isfinite(weight).all() for weight in heard.rungs[1][6].values())


def test_the_names_of_rungs_go_by_their_steps(tmp_path):
    assert rung_file(70) == "policy-000070.safetensors"
    for name in (rung_file(1000000), rung_file(70), "policy.safetensors", "policy-000071.safetensors.12.partial"):
        (tmp_path / name).touch()
    assert rung_steps(tmp_path) == [70, 1000000]
