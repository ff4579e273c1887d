"""The table [ranker], and the names that its settings give a ranker and its readouts."""

from pathlib import Path

import pytest

from flowlab.core.errors import StudyError, UnknownNameError
from flowlab.study.ranker import PUBLISHED, RankerSettings, ranker_for
from flowlab.study.study import load_study
from tests.cli.tiny_study import TINY


def test_the_published_ranker_has_the_plain_name() -> None:
    assert RankerSettings().name("steering") == "ranker"
    assert (PUBLISHED.width, PUBLISHED.tau, PUBLISHED.epochs, PUBLISHED.temperature) == (512, 0.02, 64, 4.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"width": 256, "tau": 0.05}, "ranker-width256-tau0_05"),
        ({"loss": "pointwise", "spread_weighted": False}, "ranker-pointwise-unweighted"),
        ({"lr": 1e-5, "weight_decay": 0.0}, "ranker-lr1e-05-weight-decay0"),
        ({"tau": 0.1234567}, "ranker-tau0_1234567"),
        ({"channel": "gas"}, "ranker-of-gas"),
        ({"channel": "all"}, "ranker-of-all"),
        ({"channel": "steering"}, "ranker"),
        ({"temperature": 2.0, "top": 8}, "ranker"),
    ],
)
def test_every_other_ranker_is_named_by_what_it_was_trained_with(changes: dict, expected: str) -> None:
    assert RankerSettings(**changes).name("steering") == expected


def test_a_readout_is_named_by_its_kind_then_by_its_ranker() -> None:
    settings = RankerSettings(width=256, temperature=2.5)
    assert settings.readout_name("top1", "steering") == "ranker-top1-width256"
    assert settings.readout_name("", "steering") == "ranker-temperature2_5-width256"
    assert RankerSettings().readout_name("", "steering") == "ranker"


def test_the_channel_is_that_of_selection_unless_it_is_named() -> None:
    assert ranker_for(RankerSettings(), "steering", ("gas", "steering")).channel == "steering"
    assert ranker_for(RankerSettings(channel="gas"), "steering", ("gas", "steering")).looked_at == "gas"
    assert ranker_for(RankerSettings(channel="all"), None, ("gas",)).looked_at is None


def test_a_channel_that_nobody_names_or_that_is_not_there_is_refused() -> None:
    with pytest.raises(StudyError, match=r"there is none here. Name one of x, y, or all: ranker[.]channel"):
        ranker_for(RankerSettings(), None, ("x", "y"))
    with pytest.raises(UnknownNameError, match=r"unknown channel 'stering' in ranker.channel: did you mean 'steering'"):
        ranker_for(RankerSettings(channel="stering"), None, ("steering",))


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("width = 100", "ranker.width: got 100, expected a multiple of 8"),
        ('channel = "stering"', "unknown channel 'stering' in ranker.channel"),
        ("tua = 0.02", "unknown key 'tua' in \\[ranker\\]: did you mean 'tau'"),
        ("draws = 1", "ranker.draws: got 1, expected 2 or more"),
    ],
)
def test_a_table_that_cannot_be_is_refused_when_the_study_is_read(tmp_path: Path, table: str, expected: str) -> None:
    (tmp_path / "experiments.toml").write_text(TINY.replace("STEPS", "5") + f"\n[ranker]\n{table}\n")
    with pytest.raises((StudyError, UnknownNameError), match=expected):
        load_study(tmp_path)
