"""`flowlab bench`: what fits the machine is run, and what it tells comes out as one table."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from flowlab.cli.bench import show
from flowlab.core.errors import RunFailedError, UnknownNameError
from flowlab.lab import against_plain
from flowlab.lab.against_plain import BENCHMARKS, Chosen, benchmarks_dir, choose, fitting, rows_of
from tests.cli.tiny_study import hear_ctrl_c

ROOT = Path(__file__).parents[2]
TIMES = {"wall": 1.5, "processor": 1.0}
ROW = {
    "benchmark": "step",
    "device": "a processor, 1 thread",
    "question": "step, 4 together",
    "size": "published",
    "unit": "ms a step and run",
    "scale": 1000,
    "plain_checkpoints": TIMES,
    "plain": TIMES,
    "flowlab": TIMES,
    "ratio_checkpoints_wall": 1.0,
    "ratio_wall": 1.0,
    "note": "",
}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from flowlab.cli.main import main; main()", "bench", *arguments]


def test_a_training_step_of_the_smallest_size_is_measured(tmp_path):
    done = subprocess.run(command("step", "--quick", "--json"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    alone, together = json.loads(done.stdout)
    assert (alone["question"], together["question"], alone["size"]) == ("step, alone", "step, 4 together", "tiny")
    for row in (alone, together):
        assert 0 < row["flowlab"]["wall"] < row["plain_checkpoints"]["wall"] * 20
        assert row["ratio_wall"] == pytest.approx(row["plain"]["wall"] / row["flowlab"]["wall"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sign", "code", "says"),
    [
        (signal.SIGINT, 130, "stopped. A benchmark that was going on begins anew"),
        (signal.SIGTERM, 143, ""),
        (signal.SIGKILL, -9, ""),
    ],
)
def test_whatever_ends_it_no_process_is_left_and_no_file_where_that_can_be(tmp_path, sign, code, says):
    going = subprocess.Popen(
        command("cache_load"),
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )
    assert going.stderr.readline() == "cache_load: reading a cache\n"
    until(lambda: any(tmp_path.glob("flowlab-bench-*/tmp*/*")))  # its script is writing
    going.send_signal(sign)
    _, said = going.communicate(timeout=60)
    assert going.returncode == code
    assert says in said and "Traceback" not in said
    until(lambda: not scripts_of(tmp_path))
    assert sign == signal.SIGKILL or not any(tmp_path.iterdir())


def scripts_of(folder: Path) -> list[str]:
    """The processes that have that folder on their command line."""
    told = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in told.splitlines() if str(folder) in line]


def until(happens) -> None:
    """Wait until that is so, a minute at most."""
    end = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_script_that_fails_is_told_with_its_last_line(tmp_path, monkeypatch):
    (tmp_path / "step.py").write_text("print('{\"question\": 1}', flush=True)\nraise SystemExit('no such thing')")
    monkeypatch.setattr(against_plain, "benchmarks_dir", lambda: tmp_path)
    rows = rows_of(Chosen("step", ("tiny",)), quick=True)
    assert next(rows) == {"question": 1}
    with pytest.raises(RunFailedError, match="step ended with exit code 1: no such thing"):
        next(rows)


def test_what_does_not_fit_is_left_out_and_said():
    assert fitting("step", 32.0, 8, quick=False).sizes == ("tiny", "demo", "published")
    small = fitting("step", 4.0, 8, quick=False)
    assert small.sizes == ("tiny", "demo") and small.is_run
    assert small.left_out == ("step at published size: it needs 8 GiB, 4.0 are free",)
    assert fitting("step", 32.0, 8, quick=True).sizes == ("tiny",)
    alone = fitting("campaign", 32.0, 1, quick=False)
    assert not alone.is_run and alone.left_out == ("campaign: it needs 2 cores, this process has 1",)
    assert not fitting("build", 0.1, 8, quick=False).is_run
    assert fitting("build", 32.0, 8, quick=False).is_run


def test_without_a_name_all_are_chosen_and_an_unknown_one_is_refused():
    assert [one.name for one in choose([], quick=True)] == list(BENCHMARKS)
    with pytest.raises(UnknownNameError, match="benchmark 'stepp'"):
        choose(["stepp"], quick=True)


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_fits(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    show([ROW, ROW | {"plain_checkpoints": None, "ratio_checkpoints_wall": None}], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.split()[-5:] == ["1,500", "1,500", "1,500", "1.00", "1.00"] for line in lines)


def test_a_wheel_has_all_that_they_import():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    inside = {Path(name).stem for name in wheel["force-include"] if name.startswith("benchmarks/")}
    assert benchmarks_dir() == ROOT / "benchmarks"
    needed = set(BENCHMARKS) | {"plain_run", "turns"}
    own = {path.stem for path in benchmarks_dir().glob("*.py")}
    while True:
        trees = [ast.parse((benchmarks_dir() / f"{name}.py").read_text()) for name in needed]
        imported = {node.module for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if imported & own <= needed:
            break
        needed |= imported & own
    assert inside == needed
