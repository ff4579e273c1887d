"""`flowlab loop` through the true command line: a tree to its end, budgets, crashes, kills, two at once."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from flowlab.core.locks import hold
from flowlab.lab import run as lab_run
from flowlab.lab import stacking
from tests.cli.tiny_study import ask, command, write_tiny
from tests.cli.tiny_study import flowlab_here as flowlab

EASY = """
[levers.diverges]
set = { "train.lr" = 1e30 }

[levers.lr-half]
set = { "train.lr" = 5e-4 }

[rules.easy]
stages = [{ name = "any", statistic = "panel", num_seeds = 1, bar = -1.5 }]
panel_seeds = [1001, 1002]
judged_seeds = [1003]
guardrails = [{ slice = "overall", margin = 1.9 }]

[tree]
on_stack = "move-base"

[[tree.phases]]
name = "loss"
levers = ["diverges", "delta-off"]

[[tree.phases]]
name = "selection"
kind = "selection"
always = true

[[tree.phases]]
name = "finale"
kind = "finale"
"""
ORDER = "select lever, seed, why from owed_runs order by seed"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose rule stacks whatever finishes, with its cache; of its tree nothing has begun."""
    folder = write_tiny(tmp_path_factory.mktemp("built"), steps=6)
    path = folder / "experiments.toml"
    path.write_text(path.read_text().replace('rule = "panel"', 'rule = "easy"') + EASY)
    flowlab(folder, "cache", "build")
    return folder


@pytest.fixture(scope="module")
def looped(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same once the loop has gone through its tree."""
    folder = Path(shutil.copytree(built, tmp_path_factory.mktemp("looped") / "study"))
    assert "the loop has ended: every phase of the tree has ended" in flowlab(folder, "loop").stderr
    return folder


@pytest.fixture(scope="module")
def half_calibrated(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same once half of its panel has run; `told.txt` is what the loop said."""
    folder = Path(shutil.copytree(built, tmp_path_factory.mktemp("half") / "study"))
    (folder / "told.txt").write_text(flowlab(folder, "loop", "--max-runs", "1").stderr)
    return folder


@pytest.fixture(scope="module")
def calibrated(half_calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same once its panel has run."""
    folder = Path(shutil.copytree(half_calibrated, tmp_path_factory.mktemp("calibrated") / "study"))
    flowlab(folder, "loop", "--max-runs", "1")
    return folder


@pytest.fixture
def begun(calibrated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(calibrated, tmp_path / "study"))


@pytest.fixture
def study(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "study"))


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "experiments.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def tree(folder: Path) -> dict:
    return json.loads(flowlab(folder, "loop", "--dry-run", "--json").stdout)


def states(folder: Path) -> list[str]:
    return [phase["state"] for phase in tree(folder)["phases"]]


def finished(folder: Path) -> list[str]:
    """The names of finished runs, one for each time that one finished."""
    question = """
        select lever, seed from events join told_runs using (run_id)
        where what = 'finished' and purpose is null order by all"""
    rows = ask(folder, question)
    return [f"{row['lever']}@{row['seed']}" for row in rows]


def test_a_loop_stacks_what_the_rule_says_and_gives_the_new_base_its_panel(looped: Path) -> None:
    decisions = {row["lever"]: row["decision"] for row in ask(looped, "select lever, decision from verdicts")}
    assert decisions == {"diverges": "drop", "delta-off": "stack"}
    assert 'stacked = ["delta-off"]' in (looped / "experiments.toml").read_text()
    assert finished(looped) == ["control@1001", "control@1001", "control@1002", "control@1002", "delta-off@1003"]
    assert ask(looped, "select lever, new_panel_is_complete from stack_replicates") == [
        {"lever": "delta-off", "new_panel_is_complete": True}
    ]
    assert ask(looped, ORDER) == []
    assert "fit" in flowlab(looped, "ledger", "verify").stdout


def test_its_phases_are_on_record_with_what_they_spent(looped: Path) -> None:
    finale, loss, selection = ask(looped, "select * from phase_states order by phase")
    assert (loss["state"], loss["why"], loss["num_runs"]) == ("ended", "the rule wants nothing more of its levers", 6)
    assert (selection["state"], selection["num_runs"]) == ("ended", 0)
    assert finale["why"].startswith("full path and cache of control @ 1001 differ by ") and "confirmed" in finale["why"]
    assert loss["minutes"] > 0


def test_a_loop_that_is_done_does_nothing_more(looped: Path) -> None:
    before = finished(looped)
    assert "every phase of the tree has ended" in flowlab(looped, "loop").stderr
    assert finished(looped) == before


def test_a_dry_run_says_what_is_next_and_writes_nothing(built: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.is_file()}
    told = tree(built)
    assert told["next"] == ["control@1001", "control@1002"], "the panel comes first, for the rule is not sealed"
    assert [phase["state"] for phase in told["phases"]] == ["waits", "waits", "waits"]
    after = {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() <= {built / "ledger.duckdb", built / "ledger.duckdb.lock"}
    assert {path: after[path] for path in before} == before


def test_max_runs_stops_and_the_next_loop_goes_on(half_calibrated: Path, calibrated: Path) -> None:
    told = (half_calibrated / "told.txt").read_text()
    assert "the loop has ended: the 1 runs of this command are used up" in told
    assert finished(half_calibrated) == ["control@1001"]
    assert states(half_calibrated) == ["began", "began", "waits"], "the selection always runs, on what there is"
    assert finished(calibrated) == ["control@1001", "control@1002"]
    assert tree(calibrated)["next"] == ["control@1001", "control@1002"] or tree(calibrated)["next"] == [
        "diverges@1003",
        "delta-off@1003",
    ]


def test_time_that_is_up_begins_no_run(begun: Path) -> None:
    assert "the time of this command is used up" in flowlab(begun, "loop", "--budget", "0.001s").stderr
    assert finished(begun) == ["control@1001", "control@1002"]


def test_a_phase_ends_with_its_budget(study: Path) -> None:
    edit(study, 'levers = ["diverges", "delta-off"]', 'levers = ["diverges", "delta-off"]\nruns = 3')
    flowlab(study, "loop")
    loss = tree(study)["phases"][0]
    assert (loss["state"], loss["runs"]) == ("ended", 3)
    assert loss["why"] == "its budget of 3 runs is used up"


def test_a_tree_that_was_changed_is_refused_until_that_is_on_record(looped: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(looped, tmp_path / "study"))
    edit(folder, 'levers = ["diverges", "delta-off"]', 'levers = ["delta-off", "lr-half"]')
    assert "flowlab loop would refuse to begin: the tree is registered" in flowlab(folder, "loop", "--dry-run").stderr
    told = flowlab(folder, "loop", code=2).stderr
    assert 'the tree is registered with phases[0].levers[0] = "diverges"' in told and "--amend" in told
    assert "an amendment needs a reason" in flowlab(folder, "loop", "--amend", " ", code=2).stderr
    flowlab(folder, "loop", "--amend", "another idea", "--max-runs", "1")
    assert ask(folder, "select reason from trees order by entry desc limit 1") == [{"reason": "another idea"}]
    assert "lr-half@1003" in finished(folder)
    assert "the tree is as it was registered" in flowlab(folder, "loop", "--amend", "again", code=2).stderr
    assert "fit" in flowlab(folder, "ledger", "verify").stdout


def test_a_dry_run_says_that_the_rule_was_edited(looped: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(looped, tmp_path / "study"))
    assert "refuse" not in flowlab(folder, "loop", "--dry-run").stderr
    edit(folder, "bar = -1.5", "bar = -1.4")
    told = flowlab(folder, "loop", "--dry-run").stderr
    assert "flowlab loop would refuse to begin: rule 'easy' is in force, and experiments.toml has it otherwise" in told
    assert "--amend goes with a loop that begins" in flowlab(folder, "loop", "--dry-run", "--amend", "x", code=2).stderr


def test_the_tree_may_leave_stacking_and_crashes_to_a_person(study: Path) -> None:
    edit(study, 'on_stack = "move-base"', 'on_stack = "stop"\non_crash = "stop"')
    told = flowlab(study, "loop", code=2).stderr
    assert "crashed (crashed-early, not finite" in told and "the tree says to stop at that" in told
    edit(study, 'on_crash = "stop"', 'on_crash = "go-on"')
    told = flowlab(study, "loop", "--amend", "crashes are to be expected", code=2).stderr
    assert "says stack of delta-off, and the tree says to stop there. Stack it: flowlab stack delta-off" in told
    assert "stacked = " not in (study / "experiments.toml").read_text()


def test_a_second_loop_says_who_holds_the_study(study: Path) -> None:
    (study / "runs").mkdir(exist_ok=True)
    path = study / "runs" / "loop.lock"
    path.write_text("process 4711 on elsewhere, since 2026-01-01 00:00:00\n")
    with hold(path):
        told = flowlab(study, "loop", code=2).stderr
    assert "another flowlab loop is at this study: process 4711 on elsewhere" in told
    assert finished(study) == []


def test_a_cohort_that_does_not_fit_into_memory_goes_on_in_halves(study: Path, monkeypatch) -> None:
    sizes = []
    train = lab_run.run_cohort

    def of_one(study, ground, cohort, *rest):
        sizes.append(cohort.size)
        if cohort.size > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        train(study, ground, cohort, *rest)

    monkeypatch.setattr(lab_run, "run_cohort", of_one)
    told = flowlab(study, "loop", "--max-runs", "2").stderr
    assert "out of memory: the cohort of 2 runs goes on as 1 and 1" in told
    assert sizes == [2, 1, 1]
    assert finished(study) == ["control@1001", "control@1002"]


def test_a_run_that_fails_again_alone_is_given_up_and_the_loop_goes_on(begun: Path, monkeypatch) -> None:
    train = lab_run.run_cohort

    def fails(study, ground, cohort, *rest):
        if any(run.lever == "diverges" for run in cohort.runs):
            raise MemoryError("no room for this one")
        train(study, ground, cohort, *rest)

    monkeypatch.setattr(lab_run, "run_cohort", fails)
    told = flowlab(begun, "loop").stderr
    assert "MemoryError: no room for this one" in told and "every phase of the tree has ended" in told
    (run,) = ask(begun, "select status, reason from run_status where lever = 'diverges'")
    assert run["status"] == "crashed" and "given up after 2 failures" in run["reason"]
    assert "delta-off@1003" in finished(begun)


def test_a_stack_that_was_cut_short_is_completed(begun: Path, monkeypatch) -> None:
    def cut(path, content):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stacking, "write_atomic", cut)
        flowlab(begun, "loop", code=130)
    assert "stacked = " not in (begun / "experiments.toml").read_text()
    flowlab(begun, "loop")
    assert 'stacked = ["delta-off"]' in (begun / "experiments.toml").read_text()
    assert len(ask(begun, "select * from stacks")) == 1
    assert finished(begun).count("control@1001") == 2


@pytest.mark.slow
def test_kill_9_between_and_within_phases_repeats_nothing(study: Path, looped: Path) -> None:
    """Killed where it says so the first time: with its panel complete, and before and after the base has moved."""
    for moment in ("is about to be sealed", "stacked delta-off", "replicate"):
        with subprocess.Popen(
            command("loop"), cwd=study, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as loop:  # fmt: skip
            assert loop.stderr is not None
            for line in loop.stderr:
                if moment in line:
                    break
            loop.send_signal(signal.SIGKILL)
    flowlab(study, "loop")
    assert finished(study) == finished(looped)
    question = "select lever, decision, reason from verdicts order by all"
    assert ask(study, question) == ask(looped, question)
    assert "fit" in flowlab(study, "ledger", "verify").stdout


def test_without_a_tree_the_loop_says_how_to_write_one(tmp_path: Path) -> None:
    told = flowlab(write_tiny(tmp_path), "loop", code=2).stderr
    assert "experiments.toml has no [tree]" in told and "[[tree.phases]]" in told


@pytest.mark.parametrize("text", ["2", "h", "1h2", "-1h", "0m", "1 h", "nan"])
def test_a_budget_is_a_duration(built: Path, text: str) -> None:
    told = flowlab(built, "loop", f"--budget={text}", code=2).stderr
    assert "--budget got" in told and "Example: --budget 1h30m" in told
