"""Every lever of the demo's experiments.toml goes through the true command line, at tiny size on synthetic drives."""

import json
import re
from pathlib import Path

import pytest

from flowlab.study.lever import flat_keys
from flowlab.study.study import load_study
from tests.cli.tiny_study import ask, flowlab

ROOT = Path(__file__).parents[2]
LEVERS = load_study(ROOT).levers
SMALLER = {
    r"(?s)\[drives\].*?(?=\n# Whole drives)": '[drives]\nsource = "synthetic"\ncount = 4\nframes = 120\n',
    r"num_val = 3": "num_val = 1",
    r'"split.num_train" = 6': '"split.num_train" = 2',
    r"width = 128 # of a condition token": "width = 16",
    r"image_height = 48": "image_height = 24",
    r"image_width = 48": "image_width = 24",
    r"image_width_tokens = 64": "image_width_tokens = 16",
    r"image_layers = 2": "image_layers = 1",
    r"temporal_layers = 2": "temporal_layers = 1",
    r"image_steps = 400": "image_steps = 10",
    r"window_steps = 400": "window_steps = 10",
    r"width = 64\nlayers = 3": "width = 16\nlayers = 1",
    r"batch = 128": "batch = 64\nsample_every = 1",
    r"steps = 600": "steps = 6",
    r"warmup_steps = 50": "warmup_steps = 3",
    r"draws = 16": "draws = 4",
    r"solver_steps = 4": "solver_steps = 1",
    r"panel_seeds = \[1001, .*\]": "panel_seeds = [1001, 1002]",
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's study made small, its cache, and one run of each lever at seed 1001."""
    text = (ROOT / "experiments.toml").read_text()
    for large, small in SMALLER.items():
        text, count = re.subn(large, small, text)
        assert count == 1, f"{large}: {count} places"
    folder = tmp_path_factory.mktemp("every")
    (folder / "experiments.toml").write_text(text)
    flowlab(folder, "cache", "build")
    flowlab(folder, "run", "--lever", ",".join(LEVERS), "--seeds", "1001")
    return folder


def test_the_readme_counts_the_levers() -> None:
    assert f"the demo study with {len(LEVERS)} levers" in (ROOT / "README.md").read_text()


def test_every_lever_has_finished_and_has_a_verdict(study: Path) -> None:
    runs = ask(study, "select lever, status, reason from run_status where lever <> 'control'")
    assert {(run["lever"], run["status"]) for run in runs} == {(lever, "finished") for lever in LEVERS}
    judged = json.loads(flowlab(study, "verdict", "--json").stdout)
    assert {row["lever"] for row in judged} == set(LEVERS)
    assert all(len(row["paired_deltas"]) == 1 for row in judged)


def test_a_stored_recipe_differs_from_the_controls_in_exactly_the_keys_that_the_lever_names(study: Path) -> None:
    settings = ask(study, "select lever, key, value_json from run_settings join runs using (run_id) where seed = 1001")
    stored: dict[str, dict[str, str]] = {}
    for row in settings:
        stored.setdefault(row["lever"], {})[row["key"]] = row["value_json"]
    control = stored.pop("control")
    for lever, recipe in stored.items():
        named = {key for key, _ in flat_keys(load_study(study).file.levers[lever].set)}
        differing = {key for key in control.keys() | recipe.keys() if control.get(key) != recipe.get(key)}
        # an open table stands as one empty key until something is in it
        assert {key for key in differing if control.get(key) != "{}"} == named, lever


def test_every_lever_but_the_placebo_moves_its_run(study: Path) -> None:
    rows = ask(
        study,
        "select lever, value from final_metrics where metric = 'l1' and slice = 'overall' and drive = '' "
        "and seed = 1001 and readout = 'single' and channel = 'steering'",
    )
    values = {row["lever"]: row["value"] for row in rows}
    same = {lever for lever, value in values.items() if value == values["control"]}
    assert same == {"control", "placebo"}


def test_levers_of_one_shape_trained_as_one_program(study: Path) -> None:
    sizes = ask(study, "select lever, cohort_size from attempts join runs using (run_id) where seed = 1001")
    per_lever = {row["lever"]: row["cohort_size"] for row in sizes}
    assert per_lever["lr-half"] >= 4
    assert per_lever["width-128"] == 1


def test_training_looks_at_one_draw_per_frame_and_at_the_flow_time_buckets(study: Path) -> None:
    looked = ask(
        study,
        "select distinct metric, channel, slice, readout from metrics join runs using (run_id) "
        "where lever = 'delta-off' and step between 0 and 11",
    )
    found = {(row["metric"], row["channel"], row["slice"], row["readout"]) for row in looked}
    for channel in ("gas", "brake", "steering"):
        assert ("l1", channel, "overall", "single") in found
        assert ("maneuver_fraction", channel, "overall", "single") in found
    assert ("maneuver_l1", "steering", "overall", "single") in found
    assert ("maneuver_slot_l1", "steering", "overall", "single") in found
    assert ("law_flow_mse", "", "overall", "") in found
    assert {("flow_mse", "", f"time:{bucket}", "") for bucket in range(1, 9)} <= found


def test_one_lever_alone_is_the_same_run(study: Path) -> None:
    """The placebo and ot-coupling were trained beside others; a replicate is trained alone."""
    flowlab(study, "run", "--lever", "ot-coupling", "--seeds", "1001", "--again")
    question = (
        "select metric, channel, slice, drive, readout, step, value from metrics join runs using (run_id) "
        "where lever = 'ot-coupling' and replicate = {} order by all"
    )
    assert ask(study, question.format(0)) == ask(study, question.format(1))
