"""The executor `ray` on a real cluster of local processes: a lost worker, Ctrl-C, what is refused."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from flowlab.core.errors import FlowlabError, MissingError, RunFailedError, StudyError
from flowlab.core.locks import hold, is_held
from flowlab.lab import ray_cluster
from flowlab.lab.exploring import explore
from flowlab.lab.ray_cluster import Ray, held_token
from flowlab.lab.ray_driver import TOKEN, Ask, why_not
from flowlab.lab.ray_worker import PACKAGES, Job, Worker, refuse
from flowlab.lab.where import Where
from flowlab.ledger.connection import read
from flowlab.study.study import Study, load_study
from flowlab.train.checkpoint import RESUME_FILE
from tests.cli.tiny_study import command, flowlab_here, hear_ctrl_c
from tests.lab.local_cluster import alone, running
from tests.lab.small_study import CPU, Said, edited

pytest.importorskip("ray", reason="there is no Ray for this Python")

DIES_AT, STEPS, SEEDS = 30, 60, [3, 4, 5, 6]
FRAGILE = f"""
import os, signal
from pathlib import Path
import flowlab.train.fit as fit
from flowlab.policy.objectives import FlowMatching
fit.RESUME_EVERY_S, fit.RESUME_SHARE = 0.0, 1e9  # every step is kept
HERE = Path(__file__).parent
class Fragile(FlowMatching):
    calls = 0
    def losses(self, *arguments, **named):
        self.calls += 1
        if self.calls == {DIES_AT} and (HERE / "first-to-die").exists():
            (HERE / "first-to-die").unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().losses(*arguments, **named)
"""
LEVERS = """
[levers.fragile]
set = { "objective.kind" = "fragile_objective:Fragile" }
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, alone(patch), running() as address:
        yield address


@pytest.fixture
def fragile(copy: Study) -> Study:
    """A study with a lever whose first worker is killed in the middle of its training, if the file says so."""
    (copy.root / "fragile_objective.py").write_text(FRAGILE)
    path = copy.root / "experiments.toml"
    path.write_text(path.read_text() + LEVERS)
    return edited(load_study(copy.root), "steps = 2", f"steps = {STEPS}")


@pytest.fixture
def importable(fragile: Study, monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    """The same, with its modules found here too, as `open_study` does it."""
    monkeypatch.syspath_prepend(str(fragile.root))
    yield fragile
    sys.modules.pop("fragile_objective", None)


def train(study: Study, where: Where) -> list[str]:
    """Four runs of the fragile lever, brought into the ledger; what was said meanwhile."""
    said = Said()
    explore(study, "fragile", SEEDS, where, said, lambda planned: None)
    return said.lines


def lines(study: Study, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for path in study.runs.glob("*/journal.jsonl") for line in path.read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def rows(study: Study) -> list[tuple[Any, ...]]:
    """Every metric row of the ledger."""
    question = "select run_id, metric, channel, slice, drive, readout, step, value from metrics order by all"
    return [tuple(row) for row in read(study.ledger, question).rows]


def test_what_a_killed_worker_had_kept_goes_on_elsewhere_and_no_row_differs(
    importable: Study, cluster: str, tmp_path: Path
) -> None:
    twin = load_study(Path(shutil.copytree(importable.root, tmp_path / "twin")))
    train(twin, Where(CPU, "processes"))
    (importable.root / "first-to-die").touch()
    said = train(importable, Where(CPU, "ray", cluster))
    assert [line for line in said if "was lost" in line], said
    assert not (importable.root / "first-to-die").exists()

    attempts = Counter(line["attempt"] for line in lines(importable, "started"))
    assert attempts == {0: 4, 1: 2}, "two runs of the cohort that was lost began anew, and no other"
    resumed = [line["detail"] for line in lines(importable, "event") if line["what"] == "resumed"]
    assert resumed == [f"from step {DIES_AT - 1}"] * 2
    assert {line["threads"] for line in lines(importable, "started")} == {1}
    assert len({line["pid"] for line in lines(importable, "started")}) == 3

    assert rows(importable) == rows(twin)
    assert len(rows(importable)) == len({row[:-1] for row in rows(importable)}) > 400, "no number is there twice"
    assert len(lines(importable, "finished")) == len(lines(twin, "finished")) == 4


def test_ctrl_c_stops_the_workers_and_keeps_what_they_kept(fragile: Study, cluster: str) -> None:
    edited(fragile, f"steps = {STEPS}", "steps = 100000")
    asked = ["run", "--set", 'objective.kind="fragile_objective:Fragile"', "--seeds", "3,4"]
    with subprocess.Popen(
        command(*asked, "--executor", "ray", "--address", cluster),
        cwd=fragile.root, stdout=-1, stderr=-1, text=True, start_new_session=True, preexec_fn=hear_ctrl_c,
    ) as process:  # fmt: skip
        while len(list(fragile.runs.glob(f"*/{RESUME_FILE}"))) < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "stopped. What is done is kept: give the same command again to go on."
    assert "Traceback" not in err and "ray" not in err.lower().replace("ray cluster", "")
    runs = [path.parent for path in fragile.runs.glob(f"*/{RESUME_FILE}")]
    assert len(runs) == 2
    assert not any(is_held(run / "lock") for run in runs)
    assert not [line for line in lines(fragile, "started") if Path(f"/proc/{line['pid']}").exists()]
    assert not list(fragile.runs.glob(".cluster-*"))


def test_a_job_whose_workers_are_lost_again_and_again_is_given_up(
    importable: Study, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "MOST_LOSSES", 0)
    (importable.root / "first-to-die").touch()
    with pytest.raises(RunFailedError, match=r"worker [12] was lost too often"):
        train(importable, Where(CPU, "ray", cluster))
    ended = read(importable.ledger, "select status from run_status").rows
    assert sorted(row[0] for row in ended).count("finished") == 2, "the other worker's runs"


def test_a_node_that_does_not_share_the_study_is_refused_in_one_sentence(
    importable: Study, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "held_token", lambda runs: nullcontext(runs / "nowhere" / "token"))
    with pytest.raises(
        MissingError, match=r"cannot train this study: .* does not see .*/runs/nowhere. Put the study on"
    ):
        train(importable, Where(CPU, "ray", cluster))
    assert lines(importable, "registered") == []


def job(token: Path, **changes: Any) -> Job:
    versions = tuple((name, version(name)) for name in PACKAGES)
    return Job(
        **(
            {"slot": 0, "payload": b"", "plugins": "", "token": str(token), "caches": (), "versions": versions}
            | changes
        )
    )


def test_a_node_must_see_the_token_and_its_lock_and_have_the_same_packages(tmp_path: Path) -> None:
    with held_token(tmp_path / "runs") as token:
        assert refuse(job(token)) == ""
        assert "and this machine 0.0.1. Install there" in refuse(job(token, versions=(("numpy", "0.0.1"),)))
        assert "has no flowlab-of-mars in" in refuse(job(token, versions=(("flowlab-of-mars", "1"),)))
        assert "does not see the cache /nowhere/a.zarr" in refuse(job(token, caches=(str(tmp_path), "/nowhere/a.zarr")))
    assert "does not see" in refuse(job(token))
    token.touch()
    assert "but not this machine's locks on it" in refuse(job(token))
    with hold(token):
        assert refuse(job(token)) == ""


def test_whatever_fails_in_a_worker_is_told(tmp_path: Path) -> None:
    with held_token(tmp_path) as token:
        worker = Worker(job(token, payload=b"no pickle"))
        ((kind, why),) = worker.told()
    assert kind == "failed" and "UnpicklingError" in why


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        ("ray://10.0.0.1:10001", StudyError, "expected HOST:PORT of a Ray cluster that this machine is a node of"),
        ("10.0.0.1", StudyError, "--address got '10.0.0.1', expected HOST:PORT"),
        ("", StudyError, "--address is empty, expected HOST:PORT of a Ray cluster, or auto"),
        ("127.0.0.1:1", MissingError, "nothing answers at 127.0.0.1:1"),
        ("127.0.0.1:99999", MissingError, "nothing answers at 127.0.0.1:99999"),
        ("no-such-host.invalid:6379", MissingError, "nothing answers at no-such-host.invalid:6379"),
    ],
)
def test_an_address_without_a_cluster_is_refused_at_once(address: str, kind: type[FlowlabError], words: str) -> None:
    began = time.monotonic()
    with pytest.raises(kind, match=words):
        Where.chosen("cpu", "ray", address)
    assert time.monotonic() - began < 2 * ray_cluster.KNOCK_S


def test_what_answers_and_is_no_ray_is_refused_once_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "REACH_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(MissingError, match=f"at {address} did not answer within 0 s. Look whether"):
            Where.chosen("cpu", "ray", address)


def test_a_cluster_that_asks_for_a_token_is_told_how_to_give_it() -> None:
    ours, theirs = multiprocessing.Pipe()
    theirs.send((0, TOKEN))
    with pytest.raises(MissingError, match=r"^the cluster asks for a token which it did not get. Set RAY_AUTH_MODE="):
        ray_cluster._reach(ours, "the cluster", Ask("10.0.0.1:6379", False, 1, 1))


def test_an_address_of_the_environment_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ray_cluster.ADDRESS_VARIABLE, "127.0.0.1:1")
    with pytest.raises(MissingError, match=r"or correct RAY_ADDRESS\.$"):
        Where.chosen("cpu", "ray")


def test_tokens_of_killed_commands_go_and_those_in_use_stay(tmp_path: Path) -> None:
    left, held, new = (tmp_path / f".cluster-{name}" for name in ("left", "held", "new"))
    for file in (left, held, new):
        file.touch()
    for file in (left, held):
        os.utime(file, (0, 0))
    with hold(held), held_token(tmp_path) as token:
        assert set(tmp_path.iterdir()) == {held, new, token}


def test_of_what_ray_says_the_cause_is_told_in_one_line() -> None:
    error = ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")
    assert why_not(error) == "Failed to connect to Ray cluster at 10.0.0.1:6379"
    error.__cause__ = RuntimeError("Last error: Traceback (most recent call last):\n  File 1\nray.Error: no token\n")
    assert why_not(error) == "ray.Error: no token"
    error.__cause__ = RuntimeError("ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: many words")
    assert why_not(error) == TOKEN
    assert why_not(RuntimeError("Version mismatch:\n    Ray: 2.1\n")) == "Version mismatch: Ray: 2.1"


@pytest.mark.parametrize("asked", [("run", "--lever", "placebo", "--seeds", "1001"), ("loop",), ("screen",)])
def test_an_address_is_refused_by_executors_that_have_none(whole: Study, asked: tuple[str, ...]) -> None:
    address = ("--executor", "inline", "--address", "10.0.0.1:6379")
    told = flowlab_here(whole.root, *asked, "--device", "cpu", *address, code=2).stderr
    assert told.splitlines()[-1] == (
        "error: --address names a Ray cluster, and --executor inline uses none: add --executor ray, or leave --address "
        "out."
    )


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"needs Ray, which is not installed: pip install 'flowlab\[ray\]'"):
        Where.chosen("cpu", "ray")


def test_a_cluster_without_a_gpu_is_not_asked_for_one(cluster: str) -> None:
    import torch

    with pytest.raises(MissingError, match="has no GPU now"):
        Ray(torch.device("cuda"), cluster).execute(None, None, [], Said())  # type: ignore[arg-type]


def test_slots_are_the_clusters_cpus(cluster: str) -> None:
    assert Where.chosen("cpu", "ray", cluster).slots == 2
    assert Where(CPU, "ray").slots == len(os.sched_getaffinity(0))
