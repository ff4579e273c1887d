"""The true command line, from recordings to a verdict, on synthetic drives."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.tiny_study import ask, command, flowlab, write_tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with its cache, delta-off and placebo at both seeds, and one replicate of placebo."""
    folder = write_tiny(tmp_path_factory.mktemp("tiny"))
    flowlab(folder, "cache", "build")
    flowlab(folder, "run", "--lever", "placebo", "--seeds", "1001,1002")
    flowlab(folder, "run", "--lever", "delta-off", "--seeds", "1001")
    flowlab(folder, "run", "--lever", "placebo", "--seeds", "1001", "--again")
    return folder


FINAL = (
    "select metric, channel, slice, readout, value from final_metrics "
    "where lever = '{}' and seed = {} and replicate = {}"
)
EPOCHS = (
    "select metric, channel, slice, readout, step, value from metrics join runs using (run_id) "
    "where step >= 0 and lever = '{}' and seed = {} and replicate = {}"
)


def rows(folder: Path, question: str, lever: str, seed: int, replicate: int = 0) -> list[dict]:
    found = ask(folder, question.format(lever, seed, replicate) + " order by all")
    assert len(found) > 5
    return found


def test_a_placebo_equals_its_control_in_every_metric(study: Path) -> None:
    for seed in (1001, 1002):
        assert rows(study, FINAL, "placebo", seed) == rows(study, FINAL, "control", seed)
        assert rows(study, EPOCHS, "placebo", seed) == rows(study, EPOCHS, "control", seed)
    verdict = json.loads(flowlab(study, "verdict", "placebo", "--json").stdout)
    assert verdict[0]["paired_deltas"] == [0.0, 0.0]
    assert verdict[0]["decision"] == "drop"


def test_a_lever_that_changes_something_differs(study: Path) -> None:
    assert rows(study, FINAL, "delta-off", 1001) != rows(study, FINAL, "control", 1001)


def test_the_same_run_again_gives_the_same_rows(study: Path) -> None:
    assert rows(study, FINAL, "placebo", 1001, 1) == rows(study, FINAL, "placebo", 1001, 0)
    assert rows(study, EPOCHS, "placebo", 1001, 1) == rows(study, EPOCHS, "placebo", 1001, 0)
    sizes = ask(
        study, "select cohort_size from attempts join runs using (run_id) where lever = 'placebo' and seed = 1001"
    )
    assert {row["cohort_size"] for row in sizes} == {1, 2}  # the replicate ran alone


def test_what_the_ledger_has_is_not_run_again(study: Path) -> None:
    done = flowlab(study, "run", "--lever", "placebo", "--seeds", "1001,1002", "--json")
    assert json.loads(done.stdout)["trained"] == []
    assert "nothing to train" in done.stderr


def test_sql_and_verdict_show_the_same_decisions(study: Path) -> None:
    shown = json.loads(flowlab(study, "verdict", "--json").stdout)
    asked = ask(study, "select lever, decision from verdicts order by lever")
    assert [(row["lever"], row["decision"]) for row in shown] == [(row["lever"], row["decision"]) for row in asked]
    assert {row["lever"] for row in asked} == {"delta-off", "placebo"}


def test_every_table_also_comes_as_json(study: Path) -> None:
    for arguments in (
        ["status"],
        ["verdict"],
        ["drives", "show"],
        ["encoder", "show"],
        ["cache", "list"],
        ["cache", "show"],
    ):
        assert json.loads(flowlab(study, *arguments, "--json").stdout), arguments
        assert flowlab(study, *arguments).stdout.strip(), arguments


def test_a_built_cache_is_not_built_again(study: Path) -> None:
    assert "nothing to do" in flowlab(study, "cache", "build").stderr


def test_each_run_records_where_its_time_went(study: Path) -> None:
    phases = {row["phase"] for row in ask(study, "select distinct phase from wall_times")}
    assert phases == {"import", "load", "train", "validate", "evaluate"}


def test_kill_9_loses_nothing_and_repeats_nothing(study: Path, tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "killed", steps=3000)
    flowlab(folder, "cache", "build")
    run = subprocess.Popen(
        command("run", "--lever", "placebo", "--seeds", "1001"),
        cwd=folder,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(folder.glob("runs/*/journal.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    flowlab(folder, "verdict")  # both answer while the run trains
    assert {row["status"] for row in json.loads(flowlab(folder, "status", "--json").stdout)} == {"running"}
    assert ask(folder, "select count(*) as runs from runs")[0]["runs"] == 3
    assert run.poll() is None, "the run ended before it could be killed"
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(1.0)  # the workers notice that their parent is gone
    statuses = {row["status"] for row in json.loads(flowlab(folder, "status", "--json").stdout)}
    assert statuses == {"interrupted"}

    toml = (folder / "experiments.toml").read_text()
    flowlab(folder, "run", "--lever", "placebo", "--seeds", "1001")
    assert (folder / "experiments.toml").read_text() == toml
    assert {row["status"] for row in json.loads(flowlab(folder, "status", "--json").stdout)} == {"finished"}
    key = "run_id, metric, channel, slice, readout, step"
    assert ask(folder, f"select {key} from metrics group by all having count(*) > 1") == []
    assert ask(folder, "select * from events where what = 'conflict'") == []
    assert rows(folder, FINAL, "placebo", 1001) == rows(folder, FINAL, "control", 1001)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["run", "--lever", "delta-of", "--seeds", "1001"], "did you mean 'delta-off'?"),
        (["run", "--lever", "delta-off", "--seeds", "1001,,x"], "--seeds got '1001,,x'"),
        (["run", "--lever", "delta-off", "--seeds", "1001,1001"], "names a seed twice"),
        (["run", "--lever", "delta-off"], "--seeds"),
        (["run", "--lever", "delta-off", "--seeds", "1001", "--device", "tpu"], "tpu"),
        (["sql", "drop table runs"], "only answers questions"),
        (["sql", "select * from verdict"], "verdicts"),
        (["sql", "selec 1"], "DuckDB"),
        (["cache", "show", "nope"], "unknown cache 'nope'"),
        (["verdict", "--study", "/nonexistent"], "no experiments.toml"),
        (["drives", "record"], "not recorded by flowlab"),
        (["verdikt"], "verdikt"),
    ],
)
def test_nonsense_gets_one_sentence(study: Path, arguments: list[str], fragment: str) -> None:
    done = flowlab(study, *arguments, code=2)
    assert done.stdout == ""
    assert fragment in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_run_without_a_cache_says_how_to_build_it(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path)
    assert "flowlab cache build" in flowlab(folder, "run", "--lever", "placebo", "--seeds", "1001", code=2).stderr
    assert not (folder / "runs").exists()


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from flowlab.cli.main import run_command; run_command(['run', '--help']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'zarr', 'duckdb', 'sqlalchemy')))"
    )
    done = subprocess.run([command()[0], "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "--lever" in done.stdout
