"""`flowlab evaluate` through the true command line."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.tiny_study import ask, flowlab_here, write_tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny(tmp_path_factory.mktemp("evaluate"), steps=2)
    flowlab_here(folder, "run", "--lever", "placebo", "--seeds", "1001")
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "study"))


def test_a_lever_is_scored_with_more_draws_and_shown_beside_what_it_had(folder: Path) -> None:
    done = flowlab_here(folder, "evaluate", "--lever", "placebo", "--draws", "8", "--solver", "euler")
    assert "placebo-1001-" in done.stdout and "meank-4" in done.stdout
    assert "draws were made of 1 policies, and kept of 0" in done.stderr
    assert "a rule judges these numbers only if it is sealed for that" in done.stderr
    again = flowlab_here(folder, "evaluate", "placebo-1001", "--draws", "8", "--solver", "euler")
    assert "0 numbers are new in the ledger; draws were made of 0 policies, and kept of 1" in again.stderr
    (row,) = ask(folder, "select source_run_id, evaluation_json from scorings")
    assert json.loads(row["evaluation_json"])["draws"] == 8
    status = json.loads(flowlab_here(folder, "status", "--json").stdout)
    (scoring,) = [run for run in status if run["scored_from"]]
    assert scoring["scored_from"] == [row["source_run_id"]] and scoring["status"] == "finished"
    assert "scored again" in flowlab_here(folder, "status").stdout


def test_all_runs_are_scored_and_told_as_json(folder: Path) -> None:
    told = json.loads(flowlab_here(folder, "evaluate", "--all", "--readout", "mode,meank-2", "--json").stdout)
    assert len(told) == 3
    assert {row["readout"] for row in told[0]["rows"]} == {"mode", "meank-2"}
    flowlab_here(folder, "evaluate", "--ensemble", "control-1001,control-1002")
    flowlab_here(folder, "ledger", "verify")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what to score"),
        (("--all", "--lever", "placebo"), "say what to score"),
        (("nobody",), "unknown run 'nobody'"),
        (("--lever", "delta-off"), "lever 'delta-off' has no finished run here"),
        (("--all", "--draws", "0"), "an evaluation cannot be so: draws"),
        (("--all", "--readout", "mod"), "did you mean 'mode'"),
        (("--ensemble", "control-1001"), "an ensemble is of two runs at least"),
    ],
)
def test_bad_input_is_one_sentence(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    done = flowlab_here(folder, "evaluate", *arguments, code=2)
    assert words in done.stderr and "Traceback" not in done.stderr
