"""The picture is SVG that any browser reads, with a row for each channel."""

from xml.etree import ElementTree

import pytest
import torch

from flowlab.evaluate.stats import fit_stats
from flowlab.evaluate.stats_facts import ModelChannel, model_facts
from flowlab.evaluate.stats_picture import BARS_OF_ATOMS, PANEL, Frame, draw_stats
from flowlab.evaluate.svg import ticks
from flowlab.study.recipe import ActionSpaceSettings

TRANSFORMS = ["gaussianize", "standardise", "identity", "mu-law", "chunk-dct", "gaussianize-dct"]
SVG = "{http://www.w3.org/2000/svg}"


def channels(transform: str, names: tuple[str, ...] = ("x & y", "still")) -> tuple[ModelChannel, ...]:
    """Two channels, one of which never moves."""
    raw = torch.rand(200, 3, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    raw[..., 1] = 0.0
    settings = ActionSpaceSettings(merge=False, transform=transform)
    stats = fit_stats(settings, "repeat", 3, names, raw)
    return model_facts(stats, raw, raw, ([0.5, 0.5], 15.0, "inverse-density"))


def drawn(transform: str) -> ElementTree.Element:
    return ElementTree.fromstring(draw_stats("stats of <x>", ("one", "two"), channels(transform)))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_it_is_whole_svg_whatever_the_transform(transform: str) -> None:
    picture = drawn(transform)
    assert picture.tag == f"{SVG}svg"
    words = [one.text for one in picture.iter(f"{SVG}text")]
    assert [words.count(name) for name in ("stats of <x>", "x & y", "still")] == [1, 1, 1]
    assert "never moves: every chunk weighs 1" in words


def test_everything_lies_within_the_page() -> None:
    picture = drawn("gaussianize-dct")
    width, height = float(picture.attrib["width"]), float(picture.attrib["height"])
    for one in picture.iter(f"{SVG}rect"):
        x, y = float(one.attrib.get("x", 0)), float(one.attrib.get("y", 0))
        assert 0 <= x <= x + float(one.attrib["width"]) <= width
        assert 0 <= y <= y + float(one.attrib["height"]) <= height


def test_an_atom_is_dark_before_and_after_and_has_its_share_written_above() -> None:
    picture = drawn("standardise")
    dark = [one for one in picture.iter(f"{SVG}rect") if one.attrib["fill"] == BARS_OF_ATOMS]
    assert len(dark) == 2, "the channel that never moves is one column in either space"
    assert [one.text for one in picture.iter(f"{SVG}text")].count("0: 100%") == 2


def test_heights_are_square_roots_and_values_beyond_stay_at_the_edge() -> None:
    frame = Frame(left=10, top=20, height=100, low=-1, high=1, most=0.4)
    assert frame.y(0.0) == 120
    assert frame.y(0.1) == pytest.approx(70), "a quarter of the most is half as high"
    assert frame.y(0.4) == 20
    assert [frame.x(value) for value in (-9, 0, float("inf"))] == [10, 10 + PANEL / 2, 10 + PANEL]


def test_ticks_are_round_and_within() -> None:
    assert ticks(-3, 3, 6) == [-3, -2, -1, 0, 1, 2, 3]
    assert ticks(0, 0.4999, 6) == [0, 0.1, 0.2, 0.3, 0.4]
    assert ticks(-0.53, 0.56, 6) == [-0.4, -0.2, 0, 0.2, 0.4]
