"""Exploratory runs are recorded and never judged; a dry run changes no byte; an edited recipe is told."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlab.core.errors import StudyError, UnknownNameError
from flowlab.lab.exploring import name_of_change, parse_changes, with_changes
from flowlab.ledger.connection import read
from flowlab.report.campaign import read_campaign
from flowlab.report.cards import _Facts, read_cards
from flowlab.study.study import Study, load_study
from tests.cli.tiny_study import ask, flowlab_here
from tests.lab.small_study import small_text


@pytest.fixture
def study(finished: Study, tmp_path: Path) -> Path:
    """A study whose control and rule's panel have finished, for one test to change."""
    return Path(shutil.copytree(finished.root, tmp_path / "study"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.lr=2e-3", 0.002),
        ("train.lr = 2e-3", 0.002),
        ("train.warmup_from_zero=true", True),
        ("train.betas=[0.9, 0.99]", [0.9, 0.99]),
        ('objective.kind="regression"', "regression"),
        ("objective.kind=regression", "regression"),
        ("encoder.model=facebook/dinov2-small", "facebook/dinov2-small"),
    ],
)
def test_values_are_those_of_toml_and_a_bare_word_is_a_text(text: str, value: object) -> None:
    assert list(parse_changes([text]).values()) == [value]


@given(st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans())
def test_a_value_comes_back_as_it_was(value: object) -> None:
    (found,) = parse_changes([f"a.b={json.dumps(value)}"]).values()
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["train"], "--set got 'train', expected KEY=VALUE"),
        (["train.lr="], "expected KEY=VALUE"),
        (["train.lr=[1"], "expected a value as in experiments.toml"),
        (["train.lr=1\nb = 2"], "expected one value"),
        (["train.lr=1", "train.lr=2"], "--set gives train.lr twice"),
    ],
)
def test_what_is_no_change_is_one_sentence(texts: list[str], why: str) -> None:
    with pytest.raises(StudyError, match=why.replace("[", r"\[")):
        parse_changes(texts)


def test_a_key_that_nobody_knows_is_told_with_the_nearest(finished: Study) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown key 'train.lrr' in --set: did you mean 'train.lr'"):
        with_changes(finished, {"train.lrr": 1.0})


def test_a_change_may_start_from_a_lever_and_is_named_after_both(finished: Study) -> None:
    explored, name = with_changes(finished, {"train.lr": 2e-3}, "delta-off")
    assert name == "delta-off-set-train.lr-0.002"
    recipe = explored.recipe(name)
    assert (recipe.train.lr, recipe.objective.delta_weight) == (0.002, 0.0)


@given(st.text(max_size=200))
def test_a_name_has_a_dot_as_no_lever_of_the_file_may_and_is_a_folders(text: str) -> None:
    name = name_of_change({"train.lr": text}, "delta-off")
    assert name.startswith("delta-off-set-train.lr") and len(name) <= 80
    assert "/" not in name and name.isascii() and name.isprintable()


def judged(study: Path) -> list[object]:
    """All that rules want and say, and what they compare on."""
    views = ("owed_runs", "verdicts", "bases", "panel", "effects")
    return [ask(study, f"select * from {view} order by all") for view in views]


def test_an_exploratory_run_is_recorded_and_nothing_is_owed_or_judged_for_it(study: Path) -> None:
    before = judged(study)
    done = flowlab_here(study, "run", "--set", "train.lr=2e-3")
    assert "1 run to train" in done.stderr and "recorded, and never judged" in done.stderr
    (run,) = ask(study, "select * from told_runs where lever = 'set-train.lr-0.002'")
    assert (run["purpose"], run["is_evidence"], run["status"], run["seed"]) == ("exploratory", False, "finished", 1001)
    assert judged(study) == before
    assert (
        "the run of this comparison is in the ledger: nothing to train\n"
        in flowlab_here(study, "run", "--set", "train.lr=0.002").stderr
    )
    assert "set-train" not in flowlab_here(study, "verdict").stdout
    assert "set-train" in flowlab_here(study, "status").stdout
    compared = flowlab_here(study, "compare", "control-1001", "set-train", "--json").stdout
    assert [one["key"] for one in json.loads(compared)["differ"]][:2] == ["train.lr", "lever"]
    flowlab_here(study, "ledger", "verify")
    (card,) = [card for card in read_cards(read_campaign(load_study(study))) if card.name == "set-train.lr-0.002"]
    assert card.runs[0].command == "flowlab run --seeds 1001 --set train.lr=0.002"
    again = flowlab_here(study, *shlex.split(card.runs[0].command)[1:])
    assert "nothing to train" in again.stderr


def test_what_is_explored_from_a_lever_is_given_from_it(finished: Study) -> None:
    facts = _Facts.__new__(_Facts)
    settings = {"train.lr": 0.002, "objective.kind": "regression", "train.betas": [0.9, 0.99]}
    facts.campaign = replace(read_campaign(finished))
    facts.campaign.__dict__["settings"] = {"r": settings}
    run = {"run_id": "r", "lever": "regression-set-train.lr-0.002", "seed": 7, "changed_keys": list(settings)}
    told = facts._explored(run)
    assert told == "flowlab run --lever regression --seeds 7 --set train.lr=0.002 --set 'train.betas=[0.9,0.99]'"


@pytest.mark.parametrize(
    "asked",
    [
        ("--lever", "delta-off", "--seeds", "1001,1002"),
        ("--owed",),
        ("--owed", "--optional"),
        ("--set", "decoder.layers=2"),
        ("--set", "encoder.width=8"),
    ],
)
def test_a_dry_run_changes_no_byte(finished: Study, asked: tuple[str, ...]) -> None:
    before = contents(finished.root)
    done = flowlab_here(finished.root, "run", *asked, "--dry-run")
    assert "nothing was changed (--dry-run)" in done.stderr
    assert contents(finished.root) == before


def test_a_dry_run_names_what_would_be_trained_and_why(finished: Study) -> None:
    found = json.loads(
        flowlab_here(finished.root, "run", "--lever", "delta-off", "--seeds", "1001,1003", "--dry-run", "--json").stdout
    )
    assert [(run["lever"], run["seed"], run["why"]) for run in found["runs"]] == [
        ("delta-off", 1001, "asked for"),
        ("delta-off", 1003, "asked for"),
        ("control", 1003, "pairs with delta-off"),
    ]
    assert [run_id[:12] for run_id in found["done"]] == ["control-1001", "control-1002"]
    assert [len(cohort["runs"]) for cohort in found["cohorts"]] == [3]
    assert found["lacking"] == []
    (median,) = read(
        finished.ledger, "select median(s) from (select sum(seconds) as s from wall_times group by run_id)"
    ).rows[0]
    assert found["seconds"] == pytest.approx(3 * median, rel=0.5)


def test_a_dry_run_says_which_caches_lack(tmp_path: Path) -> None:
    (tmp_path / "experiments.toml").write_text(small_text())
    done = flowlab_here(tmp_path, "run", "--lever", "delta-off", "--seeds", "1001", "--dry-run")
    assert "is there yet for control, delta-off" in done.stderr and "no run has finished" in done.stderr
    assert "3 runs would be trained" in done.stderr  # delta-off, and the control at 1001 and 1002
    assert [path.name for path in tmp_path.iterdir()] == ["experiments.toml"]


def test_an_edited_recipe_is_told_before_everything_is_trained_anew(study: Path) -> None:
    path = study / "experiments.toml"
    path.write_text(path.read_text().replace("lr = 1e-3", "lr = 3e-3"))
    told = flowlab_here(study, "run", "--lever", "regression", "--seeds", "1001", "--dry-run").stderr.splitlines()
    assert [line for line in told if " was " in line and " now" in line] == [
        "regression: train.lr was 0.001 in its finished run, is 0.003 now",
        "control: train.lr was 0.001 in 2 finished runs, is 0.003 now",
    ]


def test_a_lever_that_was_never_run_is_not_called_edited(finished: Study) -> None:
    told = flowlab_here(finished.root, "run", "--lever", "delta-off", "--seeds", "1001", "--dry-run").stderr
    assert " was " not in told.replace("nothing was changed", "")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (("--set", "train.lr=1e-3", "--owed"), "leave --owed and --again out"),
        (("--set", "train.lr=1e-3", "--lever", "delta-off,placebo"), "starts from one lever"),
        (("--set", "evaluation.draws=3"), "--set sets evaluation.draws"),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(finished: Study, asked: tuple[str, ...], why: str) -> None:
    assert why in flowlab_here(finished.root, "run", *asked, code=2).stderr


def test_a_change_to_what_the_control_has_is_told(finished: Study) -> None:
    told = flowlab_here(finished.root, "run", "--set", "train.lr=1e-3", "--dry-run").stderr
    assert "sets train.lr to what the control has already" in told


def test_seeds_of_a_rule_that_were_explored_may_still_be_its_own_and_not_another_rules(copy: Study) -> None:
    """The rule's design is put on record before its seeds are seen; one that takes others in after that is refused."""
    flowlab_here(copy.root, "run", "--set", "train.lr=2e-3", "--seeds", "1001,1007")
    assert ask(copy.root, "select count(*) as num from calibrations") == [{"num": 1}]
    path = copy.root / "experiments.toml"
    before = path.read_text()
    path.write_text(before.replace("judged_seeds = [1001, 1002]", "judged_seeds = [1001, 1007]"))
    told = flowlab_here(copy.root, "run", "--lever", "delta-off", "--seeds", "1001", code=2).stderr
    assert "takes in" in told and "at which set-train.lr-0.002-100" in told
    path.write_text(before)
    flowlab_here(copy.root, "run", "--lever", "delta-off", "--seeds", "1001")
    assert ask(copy.root, "select name from rules") == [{"name": "panel"}]
