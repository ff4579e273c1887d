"""A small data set, a small recipe, and `train`, which runs `fit` and collects all that it hands out."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch

from flowlab.core.types import MetricRow
from flowlab.policy.action_space import fit_action_space
from flowlab.policy.decoder import run_weights
from flowlab.policy.weights import fit_label_density
from flowlab.study.recipe import (
    ActionSpaceSettings,
    DecoderSettings,
    ManeuverWeights,
    ObjectiveSettings,
    Recipe,
    TrainSettings,
)
from flowlab.train.checkpoint import Resume
from flowlab.train.cohort import Cohort, Run
from flowlab.train.data import TrainData, train_data
from flowlab.train.fit import Listener, Trained, fit
from flowlab.train.validate import Validation, validation_data


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bits are promised at one thread: with more, a batched product may be cut at other places."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_split(
    num: int, horizon: int = 4, tokens: int = 5, width: int = 12, slots: int | None = None
) -> tuple[TrainData, Validation]:
    """`num` train windows and 20 validation windows; steering is 0 in most slots, the brake is never pressed.

    With `slots` the policy predicts the first ones only.
    """
    generator = torch.Generator().manual_seed(11)
    condition = torch.randn(num, tokens, width, generator=generator).half()
    raw = torch.rand(num, horizon, 3, generator=generator)
    raw[..., 1] = 0
    raw[..., 2] = (raw[..., 2] * 4 - 3).clamp_min(0)
    space = fit_action_space(ActionSpaceSettings(), ("gas", "brake", "steering"), raw)
    no_history = torch.randn(num, tokens, width, generator=generator).half()
    data = train_data(condition, raw, space, fit_label_density(space.to_physical(raw)), slots, no_history)
    return data, validation_data(condition[:20], raw[:20], space, bank_seed=0, horizon=slots)


@pytest.fixture(scope="session")
def split() -> tuple[TrainData, Validation]:
    """50 windows: six whole batches of 8, and two windows over."""
    return make_split(50)


@pytest.fixture(scope="session")
def data(split) -> TrainData:
    return split[0]


@pytest.fixture(scope="session")
def validation(split) -> Validation:
    return split[1]


def make_recipe(
    lr: float = 3e-3,
    dropout: float = 0.1,
    delta_weight: float = 10.0,
    alpha: float = 0.5,
    cap: float = 15.0,
    steps: int = 14,
    layers: int = 2,
    batch: int = 8,
    width: int = 16,
) -> Recipe:
    return Recipe(
        decoder=DecoderSettings(width=width, heads=2, layers=layers, dropout=dropout),
        train=TrainSettings(batch=batch, steps=steps, warmup_steps=3, lr=lr),
        objective=ObjectiveSettings(delta_weight=delta_weight, lds=ManeuverWeights(alpha=alpha, cap=cap)),
    )


def make_run(seed: int = 1, run_id: str = "r", **changes) -> Run:
    return Run(run_id, "lever", seed, make_recipe(**changes))


@pytest.fixture(scope="session")
def run_of() -> Callable[..., Run]:
    return make_run


@pytest.fixture(scope="session")
def split_of() -> Callable[..., tuple[TrainData, Validation]]:
    return make_split


@dataclass(repr=False)
class Outcome:
    """All that `fit` handed out."""

    trained: Trained
    rows: dict[int, list[MetricRow]]
    kept: dict[int, dict[int, Resume]] = field(default_factory=dict)  # by step, then by run


def equal_weights(first: Outcome, run_first: int, second: Outcome, run_second: int) -> bool:
    """Whether one run's policy is another's, bit for bit."""
    ours, theirs = run_weights(first.trained.decoder, run_first), run_weights(second.trained.decoder, run_second)
    return all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


def copied(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in tensors.items()}


@pytest.fixture
def train(monkeypatch, data, validation) -> Callable[..., Outcome]:
    def run_fit(*runs: Run, resume=None, every_step=False, on=(data, validation), sample=None) -> Outcome:
        monkeypatch.setattr("flowlab.train.fit.RESUME_EVERY_S", -1.0 if every_step else 1e9)
        monkeypatch.setattr("flowlab.train.fit.RESUME_SHARE", 1e9)
        rows, kept = defaultdict(list), defaultdict(dict)

        def keep(run: int, state: Resume) -> None:
            kept[state.step][run] = Resume(state.step, *map(copied, (state.weights, state.moments, state.average)))

        crashes = []
        listener = Listener(
            lambda run, new: rows[run].extend(new), keep, lambda run, crash: crashes.append((run, crash))
        )
        trained = fit(Cohort(runs), *on, listener, resume=resume, sample=sample)
        assert crashes == list(trained.crashed.items()), "each crash is told once"
        return Outcome(trained, dict(rows), dict(kept))

    return run_fit
