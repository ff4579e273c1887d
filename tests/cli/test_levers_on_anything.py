"""Levers on what a cache is computed from, through the true command line: one run builds, trains, pairs and judges."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.tiny_study import TINY, ask
from tests.cli.tiny_study import flowlab_here as flowlab

pytestmark = pytest.mark.slow

LEVERS = {
    "wide": '"encoder.width" = 24',
    "stratified": '"split.choice" = "stratified"',
    "fewer": '"split.without" = ["drive_01"]',
    "short": '"windows.history" = 4',
    "same": '"encoder.width" = 16',
}
"""The last one is a placebo: it sets what the control has."""

EASY = """
[rules.easy]
stages = [{ name = "any", statistic = "panel", num_seeds = 1, bar = -1.5 }]
panel_seeds = [1001, 1002]
judged_seeds = [1001]
guardrails = [{ slice = "overall", margin = 1.9 }]
"""


def write(folder: Path) -> Path:
    """33 short drives: one validates, one is left out, and a pilot takes 30: which ones is the stratified lever's."""
    text = TINY.replace("count = 4\nframes = 120", "count = 33\nframes = 60")
    text = text.replace("num_val = 1", 'val = ["drive_00"]\nwithout = ["drive_02"]\nscale = "pilot"').replace(
        "STEPS", "4"
    )
    text = text.replace('rule = "panel"', 'rule = "easy"').replace("warmup_steps = 5", "warmup_steps = 1")
    levers = "".join(f"\n[levers.{name}]\nset = {{ {changes} }}\n" for name, changes in LEVERS.items())
    (folder / "experiments.toml").write_text(text + levers + EASY)
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The study after one `flowlab run` of all its levers, and what that said."""
    folder = write(tmp_path_factory.mktemp("anything"))
    names = ",".join(LEVERS)
    told = flowlab(folder, "run", "--lever", names, "--seeds", "1001,1002", "--executor", "inline").stderr
    return folder, told


def caches(folder: Path) -> dict[str, list[str]]:
    return {row["cache_id"]: row["levers"] for row in json.loads(flowlab(folder, "cache", "list", "--json").stdout)}


def test_one_run_builds_what_it_lacks_and_trains_all(study: tuple[Path, str]) -> None:
    folder, told = study
    assert told.index("2 runs to train") < told.index("10 runs to train; the ledger has the other 2")
    statuses = ask(folder, "select lever, status, count(*) as num from run_status group by all order by lever")
    assert [(row["lever"], row["status"], row["num"]) for row in statuses] == [
        (lever, "finished", 2) for lever in sorted(["control", *LEVERS])
    ]
    assert "note: lever same sets encoder.width to what the control has already: it changes nothing" in told


def test_cache_list_says_which_levers_need_which_cache(study: tuple[Path, str]) -> None:
    folder, _ = study
    assert sorted(caches(folder).values()) == [
        ["control", "delta-off", "placebo", "same"],
        ["fewer"],
        ["short"],
        ["stratified"],
        ["wide"],
    ]
    shown = " ".join(flowlab(folder, "cache", "list").stdout.split())
    assert "control, delta-off, placebo and" in shown
    assert "same" not in shown, "a line names three, and counts the others"


def test_each_run_names_the_cache_that_it_was_trained_from(study: tuple[Path, str]) -> None:
    folder, _ = study
    by_cache = caches(folder)
    for row in ask(folder, "select distinct lever, cache_id from runs"):
        assert row["lever"] in by_cache[row["cache_id"]]
    settings = ask(folder, "select lever, changed_keys from runs where seed = 1001 order by lever")
    assert {row["lever"]: row["changed_keys"] for row in settings} == {
        "control": [],
        "fewer": ["split.without"],
        "same": [],
        "short": ["windows.history"],
        "stratified": ["split.choice"],
        "wide": ["encoder.width"],
    }


def test_the_stratified_lever_trains_on_other_drives(study: tuple[Path, str]) -> None:
    folder, _ = study
    (own,) = [cache_id for cache_id, levers in caches(folder).items() if levers == ["stratified"]]
    train = [
        set(json.loads(flowlab(folder, "cache", "show", *name, "--json").stdout)["train_drives"])
        for name in ([], [own])
    ]
    # by name 1, 3, 4, ... 31; from either driver in turn 4, 1, 6, 3, ... 32, 29
    assert (train[0] - train[1], train[1] - train[0]) == ({"drive_31"}, {"drive_32"})


def test_every_lever_is_scored_on_the_controls_frames(study: tuple[Path, str]) -> None:
    folder, _ = study
    counts = ask(
        folder,
        "select distinct value from final_metrics where metric = 'num_frames' and slice = 'overall' "
        "and readout = 'meank' and drive = ''",
    )
    assert len(counts) == 1
    (facts,) = [json.loads(flowlab(folder, "cache", "show", "--json").stdout)]
    assert float(counts[0]["value"]) == facts["num_val"]
    assert len(ask(folder, "select distinct evaluation_id from runs")) == 1


def test_pairs_join_whatever_cache_a_lever_has(study: tuple[Path, str]) -> None:
    folder, _ = study
    apart = "metric not in ('mode_separation', 'mode_distance')"  # of frames with two modes, which a run may lack
    question = f"select lever, count(*) as num, count(distinct seed) as seeds from pairs where {apart} group by lever"
    pairs = ask(folder, question)
    numbers = {row["lever"]: (row["num"], row["seeds"]) for row in pairs}
    assert set(numbers) == set(LEVERS)
    assert len(set(numbers.values())) == 1, "every number of the control has one of each lever beside it"
    assert numbers["same"][1] == 2
    finals = ask(folder, f"select count(*) as num from final_metrics where lever = 'control' and {apart}")
    assert numbers["same"][0] == finals[0]["num"]


def test_a_placebo_by_value_has_deltas_of_exactly_nothing_and_the_others_have_not(study: tuple[Path, str]) -> None:
    folder, _ = study
    moved = ask(folder, "select lever, max(abs(delta)) as most from pairs group by lever")
    most = {row["lever"]: float(row["most"]) for row in moved}
    assert most.pop("same") == 0.0
    assert all(value > 0 for value in most.values())


def test_each_has_a_verdict_on_the_one_base(study: tuple[Path, str]) -> None:
    folder, _ = study
    judged = json.loads(flowlab(folder, "verdict", "--json").stdout)
    assert sorted(row["lever"] for row in judged) == sorted(LEVERS)
    assert len(ask(folder, "select distinct base_id from verdicts")) == 1
    assert {len(row["paired_deltas"]) for row in judged} == {1}


def test_nothing_is_trained_or_built_again(study: tuple[Path, str]) -> None:
    folder, _ = study
    told = flowlab(folder, "run", "--lever", ",".join(LEVERS), "--seeds", "1001", "--json")
    assert json.loads(told.stdout)["trained"] == []
    assert "nothing to train" in told.stderr
    built = json.loads(flowlab(folder, "cache", "build", "--json").stdout)["caches"]
    assert len(built) == 5


def test_a_lever_with_a_cache_of_its_own_is_stacked_and_the_next_ones_stand_on_it(
    study: tuple[Path, str], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(study[0], tmp_path / "study"))
    before = ask(folder, "select distinct evaluation_id from runs")
    flowlab(folder, "stack", "fewer")
    told = flowlab(folder, "run", "--owed", "--executor", "inline").stderr
    assert "3 runs to train" in told
    assert "control @ 1003: replicate" in told, "the new control is the lever's recipe, which has run at 1001"
    assert ask(folder, "select * from owed_runs") == []
    assert ask(folder, "select distinct evaluation_id from runs") == before
    flowlab(folder, "run", "--lever", "wide", "--seeds", "1001", "--executor", "inline")
    users = caches(folder)
    assert ["control", "delta-off", "placebo", "same"] in users.values()
    assert ["wide"] in users.values(), "the wide encoder on fewer drives"
    wide = ask(folder, "select base_id, changed_keys from runs where lever = 'wide' and seed = 1001")
    assert len({row["base_id"] for row in wide}) == 2
    assert [row["changed_keys"] for row in wide] == [["encoder.width"]] * 2
    flowlab(folder, "ledger", "verify")


def test_one_more_drive_leaves_the_old_runs_their_verdict(study: tuple[Path, str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(study[0], tmp_path / "study"))
    question = "select run_id, base_id, cache_id, recipe_digest from runs order by run_id"
    judging = "select lever, decision, paired_deltas from verdicts order by lever"
    before, judged = ask(folder, question), ask(folder, judging)
    path = folder / "experiments.toml"
    path.write_text(path.read_text().replace('scale = "pilot"', 'scale = "corpus"'))
    built = flowlab(folder, "cache", "build", "--lever", "same")
    assert 'experiments.toml: split.scale was "pilot", is "corpus".' in built.stderr
    assert "stays as it was pretrained, on 30 drives" in built.stderr
    assert ask(folder, question) == before
    assert ask(folder, judging) == judged
