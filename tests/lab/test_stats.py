"""Fitted stats come back from disk as exactly what was fitted."""

import json
from pathlib import Path

import pytest
import torch

from flowlab.lab.stats import fit_stats, load_stats, stats_path, store_stats
from flowlab.study.recipe import ActionSpaceSettings

CHANNELS = ("gas", "brake", "steering")


@pytest.fixture
def raw() -> torch.Tensor:
    raw = torch.rand(200, 6, 3, generator=torch.Generator().manual_seed(0))
    raw[..., 1] = 0.0
    return raw


@pytest.mark.parametrize("transform", ["gaussianize", "standardise", "identity"])
def test_what_is_stored_is_what_was_fitted(tmp_path: Path, raw: torch.Tensor, transform: str) -> None:
    stats = fit_stats(ActionSpaceSettings(transform=transform), CHANNELS, raw)
    store_stats(tmp_path / "stats.json", stats)
    loaded = load_stats(tmp_path / "stats.json")
    assert loaded is not None
    assert loaded.digest() == stats.digest()
    assert torch.equal(loaded.space.to_model(raw), stats.space.to_model(raw))
    physical = stats.space.to_physical(raw)
    assert torch.equal(loaded.density.weights(physical, 0.5, 15.0), stats.density.weights(physical, 0.5, 15.0))
    assert loaded.thresholds == stats.thresholds


def test_stats_of_other_data_have_another_digest(raw: torch.Tensor) -> None:
    settings = ActionSpaceSettings()
    assert fit_stats(settings, CHANNELS, raw).digest() != fit_stats(settings, CHANNELS, raw[:100]).digest()


@pytest.mark.parametrize("content", ["", "{", '{"channels": []}', "[]"])
def test_a_torn_file_is_no_stats(tmp_path: Path, content: str) -> None:
    path = tmp_path / "stats.json"
    path.write_text(content)
    assert load_stats(path) is None
    assert load_stats(tmp_path / "none.json") is None


def test_edited_stats_are_no_stats(tmp_path: Path, raw: torch.Tensor) -> None:
    path = tmp_path / "stats.json"
    store_stats(path, fit_stats(ActionSpaceSettings(), CHANNELS, raw))
    content = json.loads(path.read_text())
    content["stats"]["thresholds"]["gas"] += 0.1
    path.write_text(json.dumps(content))
    assert load_stats(path) is None


def test_each_action_space_has_its_own_file() -> None:
    spaces = [ActionSpaceSettings(), ActionSpaceSettings(merge=False), ActionSpaceSettings(knots=8)]
    assert len({stats_path(Path("caches"), "c0", space) for space in spaces}) == 3
