"""A campaign through the true command line: seal, run, stack, run what is owed, amend, verify, rebuild."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flowlab.cli.screen import figure
from flowlab.journal.lines import StudyJournal
from tests.cli.tiny_study import command, write_tiny
from tests.cli.tiny_study import flowlab_here as flowlab

EASY = """
[rules.easy]
stages = [{ name = "any", statistic = "panel", num_seeds = 1, bar = -1.5 }]
panel_seeds = [1001, 1002]
judged_seeds = [1003]
guardrails = [{ slice = "overall", margin = 1.9 }]

[levers.lr-half]
set = { "train.lr" = 5e-4 }

[levers.lr-double]
set = { "train.lr" = 2e-3 }
"""


def answer(folder: Path, *arguments: str) -> dict | list:
    return json.loads(flowlab(folder, *arguments, "--json").stdout)


def judged(folder: Path) -> dict[str, str]:
    return {row["lever"]: row["decision"] for row in answer(folder, "verdict")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose rule lets anything in, with its cache."""
    folder = write_tiny(tmp_path_factory.mktemp("built"))
    path = folder / "experiments.toml"
    path.write_text(path.read_text().replace('rule = "panel"', 'rule = "easy"') + EASY)
    flowlab(folder, "cache", "build")
    return folder


@pytest.fixture(scope="module")
def campaign(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with delta-off run and judged."""
    folder = Path(shutil.copytree(built, tmp_path_factory.mktemp("campaign") / "study"))
    told = flowlab(folder, "run", "--lever", "delta-off", "--seeds", "1003").stderr
    assert "rule 'easy' is about to be sealed" in told
    assert re.search(r"a lever that does nothing is stacked in +100.0%\n", told)
    assert told.index("control @ 1002: calibrates rule easy") < told.index("is about to be sealed")
    assert told.index("is about to be sealed") < told.index("delta-off @ 1003: asked for")
    return folder


@pytest.fixture
def study(campaign: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(campaign, tmp_path / "study"))


def test_a_rule_is_sealed_once_and_then_owes_its_panel(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "study"))
    first, again = answer(folder, "rule", "seal"), answer(folder, "rule", "seal")
    assert (first["sealed_now"], again["sealed_now"]) == (True, False)
    assert first["simulated"]["rates"]["null_stacked"] == 1.0
    shown = answer(folder, "rule", "show")
    assert shown["roles"] == {"panel": [1001, 1002], "discovery": [1003], "fresh": []}
    assert shown["rule"]["evaluation"]["draws"] == 4
    assert shown["sealed"]["simulated"]["rates"] == first["simulated"]["rates"]
    owed = answer(folder, "sql", "select lever, seed, why from owed_runs order by seed")
    assert owed == [{"lever": "control", "seed": seed, "why": "panel"} for seed in (1001, 1002)]
    assert "nothing is owed" not in flowlab(folder, "run", "--owed").stderr
    assert "nothing is owed" in flowlab(folder, "run", "--owed").stderr
    assert sorted(run["run_id"][:12] for run in answer(folder, "status")) == ["control-1001", "control-1002"]


def test_a_rule_without_guardrails_is_refused_and_nothing_is_sealed(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "study"))
    path = folder / "experiments.toml"
    path.write_text(path.read_text().replace('guardrails = [{ slice = "overall", margin = 1.9 }]', ""))
    told = flowlab(folder, "run", "--lever", "delta-off", "--seeds", "1003", code=2).stderr
    assert "rule 'easy' has no guardrails" in told
    assert answer(folder, "status") == []
    assert answer(folder, "rule", "list")[1]["in_force"] is False


def test_a_lever_goes_into_the_base_and_the_new_base_is_owed_its_own_panel(study: Path) -> None:
    assert judged(study) == {"delta-off": "stack"}
    stacked = answer(study, "stack", "delta-off")
    assert (stacked["stacked"], stacked["replicate_seed"]) == (["delta-off"], 1001)
    assert 'stacked = ["delta-off"]' in (study / "experiments.toml").read_text()
    question = "select lever, seed, why from owed_runs order by seed"
    assert [row["why"] for row in answer(study, "sql", question)] == ["replicate", "panel"]
    told = flowlab(study, "stack", "lr-half", code=2).stderr
    assert "the base delta-off has not been replicated: control@1001 is owed" in told
    assert (
        "is stacked: the control has its changes"
        in flowlab(study, "run", "--lever", "delta-off", "--seeds", "1003", code=2).stderr
    )
    told = flowlab(study, "run", "--owed").stderr
    assert "2 runs to train" in told and "control @ 1001: replicate" in told
    shown = flowlab(study, "verdict")
    assert "no lever has been judged on base control -> delta-off" in shown.stderr
    assert answer(study, "sql", question) == []
    (row,) = answer(study, "sql", "select * from stack_replicates")
    assert row["new_panel_is_complete"] and row["replicate_value"] is not None
    flowlab(study, "run", "--lever", "lr-half", "--seeds", "1003")
    shown = flowlab(study, "verdict").stdout
    first, second = shown.index(", base control "), shown.index(", base control -> delta-off ")
    assert first < second and "(the present one)" in shown[second:] and "(the present one)" not in shown[:second]
    assert answer(study, "stack", "lr-half")["stacked"] == ["delta-off", "lr-half"]
    recipe = answer(study, "sql", "select recipe_json from bases order by entry desc limit 1")[0]["recipe_json"]
    assert json.loads(recipe)["objective"]["delta_weight"] == 0.0
    assert json.loads(recipe)["train"]["lr"] == 5e-4
    flowlab(study, "ledger", "verify")


def test_what_a_stack_is_worth_is_told_at_new_seeds_of_both_bases(study: Path) -> None:
    told = flowlab(study, "run", "--owed", "--optional").stderr
    assert "nothing is optional: no lever was stacked" in told
    told = flowlab(study, "stack", "delta-off").stderr
    assert "Its effect was selected, and is flattered by about" in told and " better" not in told
    told = flowlab(study, "run", "--owed", "--optional").stderr
    # four new seeds after all that were there, on the base before the stack and on the one after it
    assert [told.count(f"control @ {seed}: effect of delta-off") for seed in range(1003, 1009)] == [0, 2, 2, 2, 2, 0]
    assert "nothing is optional" in flowlab(study, "run", "--owed", "--optional").stderr
    (row,) = answer(study, "sql", "select * from stack_effects")
    assert (row["lever"], row["num_pairs"], row["seeds"]) == ("delta-off", 4, [1004, 1005, 1006, 1007])
    assert f"delta-off, stacked: {figure(abs(row['effect']))} " in flowlab(study, "verdict").stdout
    flowlab(study, "ledger", "verify")


def test_only_the_verdict_moves_the_base(study: Path) -> None:
    told = flowlab(study, "stack", "lr-half", code=2).stderr
    assert "has judged no run of 'lr-half' on the present base. Run it: flowlab run --lever lr-half" in told
    assert "'placebo' changes nothing of the present base" in flowlab(study, "stack", "placebo", code=2).stderr
    path = study / "experiments.toml"
    path.write_text(path.read_text().replace("[study]", '[study]\nstacked = ["placebo"]'))
    told = flowlab(study, "run", "--lever", "lr-half", "--seeds", "1003", code=2).stderr
    assert "study.stacked is ['placebo'], and the ledger has not stacked them" in told


def test_a_stack_that_was_cut_short_is_completed(study: Path) -> None:
    before = (study / "experiments.toml").read_text()
    flowlab(study, "stack", "delta-off")
    (study / "experiments.toml").write_text(before)  # as if killed before the file was written
    assert answer(study, "stack", "delta-off")["stacked"] == ["delta-off"]
    assert answer(study, "sql", "select count(*) as num from stacks") == [{"num": 1}]


def test_an_amendment_needs_a_reason_shows_flips_and_keeps_margins(study: Path) -> None:
    path = study / "experiments.toml"
    easy = path.read_text()
    path.write_text(easy.replace('guardrails = [{ slice = "overall", margin = 1.9 }]', 'guardrails = [{ slice = "flat_frame", margin = 1.9 }]'))  # fmt: skip  # noqa: E501
    told = flowlab(study, "rule", "amend", "--reason", "in the way", code=2).stderr
    assert "the guardrail l1 steering overall meank (margin 1.9) of rule 'easy' is gone from 'easy'" in told
    path.write_text(easy.replace("bar = -1.5", "bar = 1.5"))
    assert "needs a reason" in flowlab(study, "rule", "amend", code=2).stderr
    told = flowlab(study, "rule", "amend", "--dry-run").stdout
    assert "1 of 1 levers flip" in told and "FLIPS" in told
    assert judged(study) == {"delta-off": "stack"}
    (rejudged,) = answer(study, "rule", "amend", "--reason", "anything passed")["rejudged"]
    assert (rejudged["amended_outcome"], rejudged["outcome"], rejudged["flipped"]) == ("stack", "drop", True)
    told = flowlab(study, "stack", "delta-off", code=2).stderr
    assert "rule 'easy' says drop of 'delta-off', not stack" in told
    assert "easy took the place of" in flowlab(study, "rule", "show").stdout
    flowlab(study, "ledger", "verify")


def test_verify_and_rebuild_agree_and_a_changed_row_is_found(study: Path) -> None:
    import duckdb

    judged(study)
    head = answer(study, "ledger", "verify")["head"]
    rebuilt = answer(study, "ledger", "rebuild")
    assert rebuilt["head"] == head and rebuilt["num_compared"] == rebuilt["num_entries"]
    (study / "ledger.duckdb").unlink()
    assert answer(study, "ledger", "rebuild")["head"] == head
    assert f"head {head}" in flowlab(study, "ledger", "verify", "--head", head).stdout
    with duckdb.connect(str(study / "ledger.duckdb")) as connection:
        connection.execute("update metrics set value = value - 0.01 where slice = 'spike_frame' and step = -1")
    told = flowlab(study, "ledger", "verify", code=2).stderr
    assert "does not fit its rows: one of them was changed, added or removed" in told
    told = flowlab(study, "ledger", "rebuild").stdout
    assert "the same chain as before" in told, "the chain was left alone, so the journals heal the rows"
    flowlab(study, "ledger", "verify")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "--owed", "--lever", "delta-off"), "--owed asks the rule what to run"),
        (("run", "--lever", "delta-off"), "give --lever and --seeds, or --owed"),
        (("stack", "delta-of"), "did you mean 'delta-off'?"),
        (("rule", "show", "esy"), "did you mean 'easy'?"),
        (("ledger", "verify", "--head", "abc"), "none of them ends in abc"),
    ],
)
def test_nonsense_is_one_sentence(campaign: Path, arguments: tuple[str, ...], told: str) -> None:
    assert told in flowlab(campaign, *arguments, code=2).stderr


def test_several_stacks_at_once_end_as_one(study: Path) -> None:
    """Each of three levers may be stacked on this base, and only one is: for the others the base has moved."""
    flowlab(study, "run", "--lever", "lr-half,lr-double", "--seeds", "1003")
    path = study / "experiments.toml"
    path.chmod(0o600)
    levers = ("delta-off", "lr-half", "lr-double")
    started = [
        subprocess.Popen(command("stack", lever), cwd=study, stderr=subprocess.PIPE, text=True) for lever in levers
    ]
    told = [process.communicate(timeout=120)[1] for process in started]
    codes = [process.returncode for process in started]
    assert sorted(codes) == [0, 2, 2], told
    (winner,) = [lever for lever, code in zip(levers, codes, strict=True) if code == 0]
    assert answer(study, "sql", "select lever from stacks") == [{"lever": winner}]
    assert f'stacked = ["{winner}"]' in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert all("has not been replicated" in text for text, code in zip(told, codes, strict=True) if code)


def test_nothing_is_stacked_on_numbers_that_were_changed(study: Path) -> None:
    import duckdb

    with duckdb.connect(str(study / "ledger.duckdb")) as connection:
        connection.execute("update metrics set value = 0.01 where step = -1 and run_id like 'delta-off%'")
    assert "does not fit its rows" in flowlab(study, "stack", "delta-off", code=2).stderr
    assert answer(study, "sql", "select * from stacks") == []


def test_a_base_that_was_moved_by_hand_is_refused(study: Path) -> None:
    before = (study / "experiments.toml").read_text()
    flowlab(study, "stack", "delta-off")
    (study / "experiments.toml").write_text(before)
    told = flowlab(study, "run", "--lever", "lr-half", "--seeds", "1003", code=2).stderr
    assert "the ledger has stacked 'delta-off' on this control, and study.stacked lacks it" in told


def test_a_stack_that_nobody_allowed_is_told_and_not_built_upon(study: Path) -> None:
    with StudyJournal.of(study / "runs") as journal:
        line = dict.fromkeys(("rule_digest", "recipe_digest", "cache_id", "evaluation_id"), "x")
        journal.stack(lever="placebo", control_digest="x", new_control_digest="y", changes={}, replicate_seed=1, effect=1.0, **line)  # fmt: skip  # noqa: E501
    assert "warning: placebo is stacked, and its rule says nothing of it" in flowlab(study, "verdict").stderr
    (row,) = answer(study, "sql", "select lever, decision from unfounded_stacks")
    assert row == {"lever": "placebo", "decision": None}
