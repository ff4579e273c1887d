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
        (("--all", "--arithmetic", "tf32", "--device", "cpu"), "evaluation.arithmetic is tf32, which only a GPU has"),
        (("--all", "--arithmetic", "fp8"), "an evaluation cannot be so: arithmetic"),
    ],
)
def test_bad_input_is_one_sentence(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    done = flowlab_here(folder, "evaluate", *arguments, code=2)
    assert words in done.stderr and "Traceback" not in done.stderr


def test_draws_in_bfloat16_are_an_evaluation_of_their_own(folder: Path) -> None:
    """Near those of float32, and never taken for them."""
    flowlab_here(folder, "evaluate", "--lever", "placebo", "--arithmetic", "bfloat16")
    (scoring,) = ask(folder, "select run_id, source_run_id, evaluation_json from scorings")
    assert json.loads(scoring["evaluation_json"])["arithmetic"] == "bfloat16"
    rows = ask(
        folder,
        "select run_id, value from final_metrics where metric = 'l1' and slice = 'overall' and drive = '' "
        "and readout = 'meank' and channel = 'steering'",
    )
    values = {row["run_id"]: row["value"] for row in rows}
    exact, rounded = values[scoring["source_run_id"]], values[scoring["run_id"]]
    assert 0 < abs(rounded - exact) < 0.03 * exact


def test_training_in_bfloat16_is_a_run_like_any_other_and_tf32_needs_a_gpu(folder: Path) -> None:
    refused = flowlab_here(
        folder, "run", "--set", "train.arithmetic=tf32", "--seeds", "1001", "--device", "cpu", code=2
    )
    assert "train.arithmetic is tf32, which only a GPU has, and this is a CPU" in refused.stderr
    text = (folder / "experiments.toml").read_text()
    (folder / "experiments.toml").write_text(f'{text}\n[levers.tf]\nset = {{ "train.arithmetic" = "tf32" }}\n')
    for more in ((), ("--dry-run",)):
        arguments = ("run", "--lever", "tf", "--seeds", "1003", "--device", "cpu", *more)
        assert "error: levers.tf: train.arithmetic is tf32" in flowlab_here(folder, *arguments, code=2).stderr
    (folder / "experiments.toml").write_text(text)
    before = ask(folder, "select count(*) as n from runs")
    flowlab_here(folder, "run", "--set", "train.arithmetic=bfloat16", "--seeds", "1001")
    assert ask(folder, "select count(*) as n from runs")[0]["n"] == before[0]["n"] + 1
    (setting,) = ask(
        folder, "select value_json from run_settings where key = 'train.arithmetic' and value_json <> '\"float32\"'"
    )
    assert setting["value_json"] == '"bfloat16"'


@pytest.mark.parametrize("change", ["decoder.horizon=2", "action_space.transform=chunk-dct"])
def test_a_run_with_stats_of_its_own_kind_is_scored_again(folder: Path, change: str) -> None:
    """Its name names the control's stats, what it was trained with are its own."""
    flowlab_here(folder, "run", "--set", change, "--seeds", "1001")
    done = flowlab_here(folder, "evaluate", f"set-{change.replace('=', '-')}", "--draws", "2")
    assert "draws were made of 1 policies" in done.stderr
    flowlab_here(folder, "ledger", "verify")


def test_a_plug_in_is_not_evaluated_in_bfloat16(folder: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "policy" / "mlp_decoder.py", folder / "an_mlp.py")
    flowlab_here(folder, "run", "--set", 'decoder.kind="an_mlp:build"', "--seeds", "1001")
    done = flowlab_here(folder, "evaluate", "set-decoder.kind", "--arithmetic", "bfloat16", code=2)
    assert "bfloat16 is for flowlab's own decoders" in done.stderr
