"""`flowlab stats`: the stats that a run is trained with, stored where it finds them, on the screen and as a picture."""

import json
from pathlib import Path
from unittest.mock import patch
from xml.etree import ElementTree

import pytest

from flowlab.evaluate.stats import load_stats
from flowlab.lab.ground import open_ground, prepare_stats
from flowlab.lab.stats import show_stats
from flowlab.study.study import Study
from tests.cli.tiny_study import flowlab_here
from tests.lab.small_study import edited, write_small


def asked(study: Study, *arguments: str) -> dict:
    return json.loads(flowlab_here(study.root, "stats", "--json", *arguments).stdout)


def test_what_is_shown_and_stored_is_what_the_control_is_trained_with(copy: Study) -> None:
    told = asked(copy)
    ground = open_ground(copy)
    assert told["digest"] == ground.control.stats_digest
    assert told["recipe_digest"] == ground.base.control_digest
    stored = load_stats(Path(told["path"]))
    assert stored is not None
    assert stored.to_json() == told["stats"]
    assert told["num_windows"] == ground.control.stats_cache.num_windows("train")
    assert {one["name"]: one["threshold"] for one in told["raw_channels"]} == ground.thresholds


def test_nothing_is_fitted_without_a_cache(tmp_path: Path) -> None:
    study = write_small(tmp_path)
    said = flowlab_here(study.root, "stats", code=2).stderr
    assert said.startswith("error: study 'tiny' has no cache ")
    assert said.endswith("Build it: flowlab cache build\n")
    assert not (study.caches / "stats").exists()


def test_a_lever_with_its_own_cache_has_the_controls_stats_and_weighs_its_own_windows(copy: Study) -> None:
    fewer = show_stats(copy, "fewer")
    assert fewer.is_controls
    assert fewer.trained_from.num_windows("train") < fewer.fitted_on.num_windows("train")
    weighed = [sum(one.num_chunks for one in channel.bins) for channel in fewer.channels]
    assert weighed == [fewer.trained_from.num_windows("train")] * 2


def test_a_lever_that_asks_for_its_own_stats_has_them_from_its_own_cache(copy: Study) -> None:
    own = show_stats(copy, "fewer-own")
    assert not own.is_controls
    assert own.fitted_on.cache_id == own.trained_from.cache_id == show_stats(copy, "fewer").trained_from.cache_id


def test_a_lever_on_the_action_space_has_stats_of_its_kind_on_the_controls_split(copy: Study) -> None:
    lever = '[levers.plain]\nset = { "action_space.transform" = "standardise", "decoder.horizon" = 2 }\n[levers.fewer]'
    study = edited(copy, "[levers.fewer]", lever)
    told = asked(study, "--lever", "plain")
    ground = open_ground(study, ["plain"])
    as_run = prepare_stats(study, ground.supplies["plain"].stats_cache, study.recipe("plain"))
    assert told["digest"] == as_run.digest() != ground.control.stats_digest
    assert (told["stats"]["transform"]["kind"], told["num_slots"]) == ("standardise", 2)
    shown = " ".join(flowlab_here(study.root, "stats", "--lever", "plain").stdout.split())
    assert "names this action space and the control's stats" in shown


def test_the_largest_weight_follows_the_law_of_the_lever(copy: Study) -> None:
    study = edited(copy, "[levers.fewer]", '[levers.flat]\nset = { "objective.lds.alpha" = 0.0 }\n[levers.fewer]')
    told = asked(study, "--lever", "flat")
    assert [channel["heaviest"]["weight"] for channel in told["channels"]] == [1.0, 1.0]
    assert told["path"] == asked(study)["path"], "alpha is applied when a run loads them"


def test_the_picture_lies_beside_the_stats_or_where_it_is_asked_for(copy: Study) -> None:
    shown = flowlab_here(copy.root, "stats").stdout
    beside = show_stats(copy).path.with_suffix(".svg")
    assert f"caches/stats/{beside.name}" in shown
    assert ElementTree.parse(beside).getroot().tag.endswith("svg")
    beside.unlink()
    flowlab_here(copy.root, "stats", "--plot", "here.svg")
    assert (copy.root / "here.svg").exists()
    assert not beside.exists()


def test_a_picture_of_another_kind_is_refused(copy: Study) -> None:
    said = flowlab_here(copy.root, "stats", "--plot", "here.png", code=2).stderr
    assert said == "error: --plot got 'here.png', expected the name of an SVG file. Example: --plot stats.svg\n"


@pytest.mark.parametrize("lever", ["control", "dct"])
def test_the_screen_is_at_most_80_columns_wide(copy: Study, lever: str) -> None:
    dct = '[levers.dct]\nset = { "action_space.transform" = "gaussianize-dct" }\n[levers.fewer]'
    study = edited(copy, "[levers.fewer]", dct)
    with patch("flowlab.cli.screen.PLAIN_WIDTH", 80):
        shown = flowlab_here(study.root, "stats", "--lever", lever).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "steering, physical" in shown
    assert "█" in shown


def test_thresholds_on_record_are_those_in_force(copy: Study) -> None:
    with patch("flowlab.lab.ground._thresholds", return_value={"gas": 0.0625, "brake": 0.0625, "steering": 9.0}):
        told = flowlab_here(copy.root, "stats")
        facts = {one["name"]: one for one in asked(copy)["raw_channels"]}
    assert "of gas, brake, steering the threshold on record is in force" in told.stderr
    assert (facts["steering"]["threshold"], facts["steering"]["num_reaching"]) == (9.0, 0)
    assert facts["steering"]["fitted_threshold"] < 1
