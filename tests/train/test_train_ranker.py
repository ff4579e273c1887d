"""Training rankers: the gain where the condition knows the mode, none where it does not, and the bits of a cohort."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from flowlab.core.errors import DivergedError
from flowlab.evaluate.cloud import Cloud
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.ranked import ranker_readouts
from flowlab.policy.ranker import Ranker
from flowlab.study.ranker import RankerSettings
from flowlab.study.selection import SelectionSettings
from flowlab.train.ranker import fit_rankers
from tests.train.two_modes import train_data, two_modes

QUICK = RankerSettings(width=32, channel="second", epochs=48, lr=2e-3)
SELECTION = SelectionSettings(channel="second")


@pytest.fixture(autouse=True)
def one_thread():
    """As runs are trained: with several threads a product is rounded otherwise in a cohort than alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def errors(chunk: NDArray, frames: ValidationFrames) -> NDArray[np.float64]:
    return np.abs(chunk.astype(np.float64) - frames.truth)[..., 1].mean(axis=1)


def gains(settings: RankerSettings, reveals: bool) -> tuple[dict[str, NDArray], NDArray]:
    """By readout, what each new frame's error is less than that of mean-of-K; and so for the oracle's mode."""
    frames, draws = two_modes(512, 6, reveals=reveals, seed=0)
    ranker = fit_rankers(train_data(frames, draws), settings, [1001]).ranker
    frames, draws = two_modes(400, 16, reveals=reveals, seed=1)
    mean = errors(draws.mean(axis=1), frames)
    found = {
        one.name: mean - errors(one(draws, frames), frames) for one in ranker_readouts(ranker, settings, SELECTION)
    }
    return found, mean - errors(Cloud(draws, frames, SELECTION).oracle_mode(), frames)


@pytest.mark.parametrize("settings", [QUICK, QUICK.model_copy(update={"loss": "pointwise"})], ids=["list", "point"])
def test_a_condition_that_reveals_the_mode_earns_nine_tenths_of_the_oracles_gain(settings: RankerSettings) -> None:
    found, oracle = gains(settings, reveals=True)
    assert oracle.mean() > 0.4
    assert {name.split("-")[1] for name in found if "-" in name} >= {"top1", "top4", "mode"}
    for name, gain in found.items():
        assert gain.mean() > 0.9 * oracle.mean(), name


def test_a_condition_that_does_not_reveal_it_earns_nothing() -> None:
    """Paired over 400 frames: two standard errors above 0 would be a gain."""
    found, oracle = gains(QUICK, reveals=False)
    for name, gain in found.items():
        assert gain.mean() < 2 * gain.std(ddof=1) / np.sqrt(len(gain)), name
        assert gain.mean() < 0.1 * oracle.mean(), name


def tensors(ranker: Ranker, run: int) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in ranker.run_tensors(run).items()}


@pytest.mark.parametrize("loss", ["listwise", "pointwise"])
@pytest.mark.parametrize(("num_frames", "num_draws", "width"), [(150, 5, 24), (64, 2, 8)])
def test_each_of_a_cohort_gets_the_bits_that_it_would_get_alone(
    num_frames: int, num_draws: int, width: int, loss: str
) -> None:
    settings = QUICK.model_copy(update={"width": width, "epochs": 3, "loss": loss, "batch": 50})
    frames, first = two_modes(num_frames, num_draws, reveals=True, seed=0)
    others = [two_modes(num_frames, num_draws, reveals=True, seed=seed)[1] for seed in (1, 2)]
    clouds, seeds = [first, *others], [1001, 1001, 1002]
    together = fit_rankers(train_data(frames, *clouds), settings, seeds)
    for run, (draws, seed) in enumerate(zip(clouds, seeds, strict=True)):
        alone = fit_rankers(train_data(frames, draws), settings, [seed])
        for name, value in tensors(alone.ranker, 0).items():
            assert torch.equal(value, tensors(together.ranker, run)[name]), (run, name)


def test_training_twice_gives_the_same_bits_and_another_seed_others() -> None:
    settings = QUICK.model_copy(update={"epochs": 2})
    data = train_data(*two_modes(64, 4, reveals=True, seed=0))
    once, again, other = (tensors(fit_rankers(data, settings, [seed]).ranker, 0) for seed in (1001, 1001, 1002))
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["head_enter.weight"], other["head_enter.weight"])


def test_frames_fewer_than_a_batch_are_one() -> None:
    data = train_data(*two_modes(3, 4, reveals=True, seed=0))
    assert np.isfinite(fit_rankers(data, QUICK.model_copy(update={"epochs": 2}), [1001]).losses).all()


def test_a_ranker_that_diverges_is_told() -> None:
    data = train_data(*two_modes(64, 4, reveals=True, seed=0))
    with pytest.raises(DivergedError, match="stopped being finite: lower its lr"):
        fit_rankers(data, QUICK.model_copy(update={"lr": 1e6, "loss": "pointwise", "epochs": 20}), [1001])
