"""Stats that a flowlab without versions fitted keep their digest, and are found where it stored them.

The literals were computed with that flowlab.
"""

from pathlib import Path

import pytest
import torch

from flowlab.evaluate.stats import Stats, fit_stats, stats_path
from flowlab.study.recipe import ActionSpaceSettings

CHANNELS = ("gas", "brake", "steering")


@pytest.fixture
def raw() -> torch.Tensor:
    """40 chunks of four slots; the brake is never pressed."""
    action = torch.rand(40, 4, 3, generator=torch.Generator().manual_seed(3))
    action[..., 1] = 0
    return action


def test_linear_tails_and_mirrored_edges_are_the_stats_of_before(raw: torch.Tensor) -> None:
    stats = fit_stats(ActionSpaceSettings(knots=8, tails="linear"), "mirror", 4, CHANNELS, raw)
    assert stats.digest() == "4dd451c1724fbd7e"
    assert "tails" not in stats.to_json()["transform"]
    assert Stats.from_json(stats.to_json()).space.transform.tails == "linear"


@pytest.mark.parametrize(("tails", "edges"), [("end", "mirror"), ("linear", "repeat")])
def test_other_tails_or_edges_are_other_stats(raw: torch.Tensor, tails: str, edges: str) -> None:
    stats = fit_stats(ActionSpaceSettings(knots=8, tails=tails), edges, 4, CHANNELS, raw)
    assert stats.digest() != "4dd451c1724fbd7e"
    assert Stats.from_json(stats.to_json()).digest() == stats.digest()


@pytest.mark.parametrize(
    ("transform", "name"),
    [("gaussianize", "1b8d773431b61f06"), ("chunk-dct", "ac7d58fbc5cc5cce"), ("standardise", "59d9b9521574ba19")],
)
def test_stats_of_before_are_found_where_they_were_stored(transform: str, name: str) -> None:
    def path(tails: str, edges: str) -> Path:
        return stats_path(Path("c"), "id", ActionSpaceSettings(transform=transform, tails=tails), edges, 6)

    assert path("linear", "mirror") == Path(f"c/stats/id-{name}.json")
    assert len({path(tails, edges) for tails in ("linear", "end") for edges in ("mirror", "repeat")}) == 4
