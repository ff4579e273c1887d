"""The true command line, from recordings to a verdict, on synthetic drives."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from flowlab.core.vocabulary import READOUTS
from tests.cli.tiny_study import ask, command, flowlab, flowlab_here, hear_ctrl_c, write_tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with its cache, delta-off and placebo at both seeds, and one replicate of placebo."""
    folder = write_tiny(tmp_path_factory.mktemp("tiny"))
    flowlab(folder, "cache", "build")
    flowlab(folder, "run", "--lever", "placebo,delta-off", "--seeds", "1001,1002")
    flowlab_here(folder, "run", "--lever", "placebo", "--seeds", "1001", "--again")
    return folder


FINAL = (
    "select metric, channel, slice, drive, readout, value from final_metrics "
    "where lever = '{}' and seed = {} and replicate = {}"
)
EPOCHS = (
    "select metric, channel, slice, drive, readout, step, value from metrics join runs using (run_id) "
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
    verdict = json.loads(flowlab_here(study, "verdict", "placebo", "--json").stdout)
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
    done = flowlab_here(study, "run", "--lever", "placebo", "--seeds", "1001,1002", "--json")
    assert json.loads(done.stdout)["trained"] == []
    assert "nothing to train" in done.stderr


def test_sql_and_verdict_show_the_same_decisions(study: Path) -> None:
    shown = json.loads(flowlab_here(study, "verdict", "--json").stdout)
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
        assert json.loads(flowlab_here(study, *arguments, "--json").stdout), arguments
        assert flowlab_here(study, *arguments).stdout.strip(), arguments


def test_a_built_cache_is_not_built_again(study: Path) -> None:
    assert "nothing to do" in flowlab_here(study, "cache", "build").stderr


def test_each_run_records_where_its_time_went(study: Path) -> None:
    phases = {row["phase"] for row in ask(study, "select distinct phase from wall_times")}
    assert phases == {"import", "load", "train", "validate", "evaluate", "save"}


def test_policies_are_scored_on_each_drive_of_a_frame_slice_and_baselines_are_not(study: Path) -> None:
    found = ask(study, "select distinct metric, readout from final_metrics where slice = 'spike_frame' and drive <> ''")
    of_chunks = [row for row in found if row["metric"] in ("l1", "num_frames")]
    assert {row["readout"] for row in of_chunks} == set(READOUTS)
    census = {"two_mode_fraction", "mode_separation", "mode_distance"}
    parts = {"selection_regret", "within_mode_residual", "coverage_floor"}
    assert {row["metric"] for row in found} == {"l1", "num_frames"} | census | parts


def wait_for_training(folder: Path, number: int) -> None:
    """Until `number` runs are being trained: their journals say so. Runs have folders, and empty journals, before."""
    deadline = time.monotonic() + 120
    training = 0
    while training < number:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        said = [path.read_text() for path in folder.glob("runs/*/journal.jsonl")]
        training = sum('"kind":"started"' in lines and '"kind":"finished"' not in lines for lines in said)


def statuses_of(folder: Path) -> set[str]:
    return {row["status"] for row in json.loads(flowlab_here(folder, "status", "--json").stdout)}


def test_kill_9_loses_nothing_and_repeats_nothing(study: Path, tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "killed", steps=500)
    flowlab_here(folder, "cache", "build")
    run = subprocess.Popen(
        command("run", "--lever", "placebo", "--seeds", "1001"),
        cwd=folder,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for_training(folder, 2)  # the panel comes first
    flowlab_here(folder, "verdict")  # both answer while the run trains
    assert statuses_of(folder) == {"running"}
    assert run.poll() is None, "the run ended before it could be killed"
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    deadline = time.monotonic() + 30
    while statuses_of(folder) != {"interrupted"}:  # the workers notice that their parent is gone
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ask(folder, "select count(*) as runs from runs")[0]["runs"] == 2

    toml = (folder / "experiments.toml").read_text()
    flowlab_here(folder, "run", "--lever", "placebo", "--seeds", "1001")
    assert (folder / "experiments.toml").read_text() == toml
    assert statuses_of(folder) == {"finished"}
    key = "run_id, metric, channel, slice, drive, readout, step"
    assert ask(folder, f"select {key} from metrics group by all having count(*) > 1") == []
    assert ask(folder, "select * from events where what = 'conflict'") == []
    assert rows(folder, FINAL, "placebo", 1001) == rows(folder, FINAL, "control", 1001)


def test_ctrl_c_ends_every_worker_and_says_how_to_go_on(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    shutil.copytree(study, folder)
    path = folder / "experiments.toml"
    path.write_text(path.read_text().replace("\nsteps = 20\n", "\nsteps = 30000\n"))
    asked = command("run", "--lever", "placebo", "--seeds", "1001")

    with subprocess.Popen(
        asked, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=hear_ctrl_c
    ) as run:
        wait_for_training(folder, 3)
        os.killpg(run.pid, signal.SIGINT)
        assert run.stderr is not None
        told = run.stderr.read()
    assert run.returncode == 130, told
    assert "stopped. What is done is kept" in told
    assert "Traceback" not in told
    assert statuses_of(folder) == {"finished", "interrupted"}


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
        (["status", "--jsn"], "--jsn"),
        (["run", "--lever", "placebo"], "--seeds"),
        (["verdict", "a", "b"], "b"),
        (["sql"], "SQL"),
        (["sql", "explain analyze copy (select 1) to 'written.csv'"], "DuckDB"),
        (["sql", "select * from read_csv('experiments.toml')"], "DuckDB"),
    ],
)
def test_nonsense_gets_one_sentence(study: Path, arguments: list[str], fragment: str) -> None:
    done = flowlab_here(study, *arguments, code=2)
    assert done.stdout == ""
    assert fragment in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_output_that_nobody_reads_to_its_end_is_no_error(study: Path) -> None:
    asked = command("sql", "select * from metrics", "--json")
    with subprocess.Popen(asked, cwd=study, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.read(10)
        run.stdout.close()
        assert b"Traceback" not in run.stderr.read()


def test_an_edited_control_gets_pairs_of_its_own_and_an_edited_rule_judges_nothing(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    shutil.copytree(study, folder)
    path = folder / "experiments.toml"
    text = path.read_text() + '\n[levers.lr-own]\nset = { "train.lr" = 5e-4 }\n'
    path.write_text(text)
    flowlab_here(folder, "run", "--lever", "lr-own", "--seeds", "1001")
    path.write_text(text.replace("lr = 1e-3", "lr = 2e-3"))
    told = flowlab_here(folder, "run", "--lever", "lr-own", "--seeds", "1001", "--json").stdout
    trained = json.loads(told)["trained"]
    assert sorted(run_id.rsplit("-", 1)[0] for run_id in trained) == ["control-1001", "control-1002", "lr-own-1001"]
    pairs = ask(folder, "select base_id from verdicts where lever = 'lr-own' and num_pairs = 1")
    assert len({row["base_id"] for row in pairs}) == 2

    path.write_text(text.replace('"spike_frame"', '"overall"', 1))
    shown = flowlab_here(folder, "verdict", "placebo")
    assert "on spike_frame" in shown.stdout
    assert "not sealed" in shown.stderr
    assert (
        "is in force with primary.slice"
        in flowlab_here(folder, "run", "--lever", "placebo", "--seeds", "1001", code=2).stderr
    )


def test_a_rule_that_is_younger_than_the_runs_stacks_nothing(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "younger"
    shutil.copytree(study, folder)
    path = folder / "experiments.toml"
    lenient = """
[rules.lenient]
panel_seeds = [1001, 1002]
judged_seeds = [1001, 1002]
stages = [{ name = "anything", statistic = "paired", num_seeds = 1, bar = -1.0 }]
guardrails = [{ slice = "flat_frame", margin = 0.004 }]
"""
    path.write_text(path.read_text().replace('rule = "panel"', 'rule = "lenient"') + lenient)
    assert "is in force" in flowlab_here(folder, "run", "--lever", "placebo", "--seeds", "1001,1002", code=2).stderr
    flowlab_here(folder, "rule", "amend", "--reason", "nothing passes the other")
    found = ask(folder, "select decision, reason from verdicts where rule = 'lenient' and lever = 'placebo'")
    assert found[0]["decision"] == "undecided"
    assert "of its runs are older than the rule" in found[0]["reason"]  # the control's too: a placebo has its recipe


def test_a_lever_that_diverges_is_dropped_and_harms_nobody(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "diverged"
    shutil.copytree(study, folder)
    path = folder / "experiments.toml"
    path.write_text(path.read_text() + '\n[levers.boom]\nset = { "train.lr" = 1e30 }\n')
    flowlab_here(folder, "run", "--lever", "boom", "--seeds", "1001")
    found = ask(folder, "select decision, reason from verdicts where lever = 'boom'")
    assert found[0]["decision"] == "drop"
    assert "crashed at seed 1001" in found[0]["reason"]


def test_a_lost_journal_is_written_anew(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lost"
    shutil.copytree(study, folder)
    (lost,) = [path for path in folder.glob("runs/placebo-1002-*/journal.jsonl") if "again" not in str(path)]
    lost.unlink()
    for path in folder.glob("ledger.duckdb*"):
        path.unlink()
    flowlab_here(folder, "run", "--lever", "placebo", "--seeds", "1001,1002")
    assert json.loads(flowlab_here(folder, "verdict", "placebo", "--json").stdout)[0]["paired_deltas"] == [0.0, 0.0]


def test_a_run_builds_the_cache_that_it_lacks_and_then_trains(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path, steps=2)
    told = flowlab_here(folder, "run", "--lever", "placebo", "--seeds", "1001", "--executor", "inline").stderr
    assert told.index("pretraining the encoder on 3 train drives") < told.index("2 runs to train")
    assert statuses_of(folder) == {"finished"}
    assert "nothing to do, there is caches/" in flowlab_here(folder, "cache", "build").stderr


def test_what_only_reads_builds_no_cache_and_says_how_to(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path)
    assert "flowlab cache build" in flowlab_here(folder, "stack", "placebo", code=2).stderr
    assert "flowlab cache build" in flowlab_here(folder, "cache", "show", code=2).stderr
    assert not list(folder.glob("caches/*.zarr"))


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from flowlab.cli.main import run_command; run_command(['run', '--help']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'zarr', 'duckdb', 'sqlalchemy')))"
    )
    done = subprocess.run([command()[0], "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "--lever" in done.stdout
