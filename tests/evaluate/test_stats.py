"""Fitted stats come back from disk as exactly what was fitted."""

import json
from itertools import product
from pathlib import Path
from typing import Literal

import pytest
import torch

from flowlab.evaluate.stats import fit_stats, load_stats, stats_path, store_stats
from flowlab.policy.weights import fit_label_density
from flowlab.study.recipe import ActionSpaceSettings

CHANNELS, HORIZON = ("gas", "brake", "steering"), 6


@pytest.fixture
def raw() -> torch.Tensor:
    raw = torch.rand(200, HORIZON, 3, generator=torch.Generator().manual_seed(0))
    raw[..., 1] = 0.0
    return raw


@pytest.mark.parametrize(
    "transform", ["gaussianize", "standardise", "identity", "mu-law", "chunk-dct", "gaussianize-dct"]
)
def test_what_is_stored_is_what_was_fitted(tmp_path: Path, raw: torch.Tensor, transform: str) -> None:
    stats = fit_stats(ActionSpaceSettings(transform=transform), "repeat", HORIZON, CHANNELS, raw)
    store_stats(tmp_path / "stats.json", stats)
    loaded = load_stats(tmp_path / "stats.json")
    assert loaded is not None
    assert loaded.digest() == stats.digest()
    assert torch.equal(loaded.space.to_model(raw), stats.space.to_model(raw))
    physical = stats.space.to_physical(raw)
    weights = [of.density.weights(physical, [0.5, 1.0], 15.0) for of in (loaded, stats)]
    assert torch.equal(*weights)
    assert loaded.thresholds == stats.thresholds


def test_stats_of_other_data_have_another_digest(raw: torch.Tensor) -> None:
    all_of_it, half = (fit_stats(ActionSpaceSettings(), "repeat", HORIZON, CHANNELS, of) for of in (raw, raw[:100]))
    assert all_of_it.digest() != half.digest()


@pytest.mark.parametrize("content", ["", "{", '{"channels": []}', "[]"])
def test_a_torn_file_is_no_stats(tmp_path: Path, content: str) -> None:
    path = tmp_path / "stats.json"
    path.write_text(content)
    assert load_stats(path) is None
    assert load_stats(tmp_path / "none.json") is None


def test_edited_stats_are_no_stats(tmp_path: Path, raw: torch.Tensor) -> None:
    path = tmp_path / "stats.json"
    store_stats(path, fit_stats(ActionSpaceSettings(), "repeat", HORIZON, CHANNELS, raw))
    content = json.loads(path.read_text())
    content["stats"]["thresholds"]["gas"] += 0.1
    path.write_text(json.dumps(content))
    assert load_stats(path) is None


def test_each_action_space_smoothing_and_horizon_has_its_own_file() -> None:
    spaces = [ActionSpaceSettings(), ActionSpaceSettings(merge=False), ActionSpaceSettings(tails="linear")]
    cases = product(spaces, ("repeat", "mirror"), (3, 6))
    assert len({stats_path(Path("caches"), "c0", *case) for case in cases}) == 12


@pytest.mark.parametrize("tails", ["end", "linear"])
def test_tails_come_back_as_they_were_fitted(
    tmp_path: Path, raw: torch.Tensor, tails: Literal["end", "linear"]
) -> None:
    stats = fit_stats(ActionSpaceSettings(tails=tails), "repeat", HORIZON, CHANNELS, raw)
    store_stats(tmp_path / "stats.json", stats)
    loaded = load_stats(tmp_path / "stats.json")
    assert loaded is not None
    far = torch.full((1, HORIZON, 2), 9.0)
    assert torch.equal(loaded.space.to_raw(far), stats.space.to_raw(far))
    assert bool((loaded.space.to_raw(far)[..., 2] > raw[..., 2].max()).all()) == (tails == "linear")


def test_the_density_is_smoothed_at_the_edges_that_are_given(raw: torch.Tensor) -> None:
    repeat, mirror = (fit_stats(ActionSpaceSettings(), edges, HORIZON, CHANNELS, raw) for edges in ("repeat", "mirror"))
    physical = repeat.space.to_physical(raw)
    assert torch.equal(physical, mirror.space.to_physical(raw))
    assert repeat.density.share[1].tolist() == fit_label_density(physical, "repeat").share[1].tolist()
    assert mirror.density.share[1].tolist() == fit_label_density(physical, "mirror").share[1].tolist()


def test_the_space_is_fitted_on_the_slots_that_are_predicted_and_the_labels_on_all(raw: torch.Tensor) -> None:
    later = raw.clone()
    later[:, 2:, 2] = 2.0
    settings = ActionSpaceSettings(transform="standardise")
    before, after = (fit_stats(settings, "repeat", 2, CHANNELS, of) for of in (raw, later))
    assert torch.equal(before.space.to_model(raw), after.space.to_model(raw))
    assert after.density.top[1] == 2.0 > before.density.top[1]


def test_labels_that_the_control_never_had_weigh_as_its_rarest_and_stay_finite() -> None:
    """A lever may train on drives with maneuvers that the control's train side lacks: those bins were never filled."""
    raw = torch.zeros(40, HORIZON, 3)
    raw[0, :, 2] = 1.0  # steering: 39 straights, one full turn
    density = fit_stats(ActionSpaceSettings(), "repeat", HORIZON, CHANNELS, raw).density
    other = torch.zeros(40, HORIZON, 3)
    other[:2, :, 2] = torch.tensor([0.5, 3.0])[:, None]  # half a turn, and more than there ever was
    weights = density.weights(torch.stack([other[..., 0], other[..., 2]], dim=-1), [0.5, 0.5], cap=15.0)
    assert torch.isfinite(weights).all()
    assert (weights > 0).all()
    half, beyond, straight = weights[:3, 1].tolist()
    assert half >= beyond > straight, "a bin that held none is as rare as can be; beyond the last is the last"
    assert weights[:, 0].tolist() == [1.0] * 40, "gas and brake are as they were"
