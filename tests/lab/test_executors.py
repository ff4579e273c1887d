"""What every executor promises, asked of each of flowlab's own; and that all give the same bits."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors import safe_open

from flowlab.core.errors import FlowlabError, RunFailedError
from flowlab.core.plugins import TABLE, Executor, resolve
from flowlab.lab.environment import choose_executor
from flowlab.lab.ground import open_ground
from flowlab.lab.plan import PlannedRun, plan_runs
from flowlab.study.study import load_study
from tests.lab.local_cluster import alone
from tests.lab.small_study import CPU, Said

BROKEN = """
from flowlab.policy.objectives import FlowMatching
class Broken(FlowMatching):
    def losses(self, decoder, memory, batch, drop=None):
        raise OSError("the disk of dreams is full")
"""
LEVERS = """
[levers.broken]
set = { "objective.kind" = "broken_objective:Broken" }
"""
SEED = 7
NAMES = [name for name in TABLE["executors"] if name != "ray" or find_spec("ray")]  # not each Python has a Ray


@dataclass(frozen=True)
class Executed:
    """What an executor left behind, and what it raised."""

    runs: dict[str, PlannedRun]  # by lever
    folder: Path
    raised: FlowlabError | None
    said: list[str]

    def lines(self, lever: str) -> list[dict]:
        text = (self.folder / self.runs[lever].run.run_id / "journal.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def kinds(self, lever: str) -> list[str]:
        return [line["kind"] for line in self.lines(lever)]

    def metrics(self, lever: str) -> list:
        return [line["rows"] for line in self.lines(lever) if line["kind"] == "metrics"]

    def policy(self, lever: str) -> dict[str, bytes]:
        """Each tensor's bits, and what the file says of itself."""
        path = self.folder / self.runs[lever].run.run_id / "policy.safetensors"
        with safe_open(path, "numpy") as file:
            told = {name: text.encode() for name, text in file.metadata().items()}
            return told | {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def execute(name: str, built: Path, folder: Path) -> Executed:
    """The control and three levers at one seed: one shape and cache, another cache, and one that fails."""
    shutil.copytree(built, folder, ignore=shutil.ignore_patterns("runs"))
    (folder / "broken_objective.py").write_text(BROKEN)
    path = folder / "experiments.toml"
    path.write_text(path.read_text() + LEVERS)
    study = load_study(folder)
    levers = ["delta-off", "narrow", "broken"]
    ground = open_ground(study, levers)
    planned = [item for item in plan_runs(study, ground, levers, [SEED], {}, again=False) if item.run.seed == SEED]
    said, raised = Said(), None
    try:
        resolve("executors", name)(CPU).execute(study, ground, planned, said)
    except FlowlabError as error:
        raised = error
    return Executed({item.run.lever: item for item in planned}, study.runs, raised, said.lines)


@pytest.fixture(scope="module")
def executed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Executed]]:
    """What each executor did with the same runs."""
    folders = {name: tmp_path_factory.mktemp("executor") / name for name in NAMES}
    sys.path.extend(map(str, folders.values()))  # as open_study does, for the plug-in beside experiments.toml
    try:
        with pytest.MonkeyPatch.context() as patch, alone(patch):
            done = {name: execute(name, built, folder) for name, folder in folders.items()}
        yield done
    finally:
        for folder in folders.values():
            sys.path.remove(str(folder))
        sys.modules.pop("broken_objective", None)


@pytest.mark.parametrize("name", NAMES)
class TestExecutorConforms:
    """An executor of one's own passes these too: add it to the table, or name it here."""

    def test_it_is_built_from_a_device_and_is_an_executor(self, name: str) -> None:
        assert isinstance(resolve("executors", name)(CPU), Executor)

    def test_every_run_that_could_finish_has_said_so(self, executed: dict[str, Executed], name: str) -> None:
        for lever in ("control", "delta-off", "narrow"):
            kinds = executed[name].kinds(lever)
            assert (kinds[0], kinds[-1]) == ("registered", "finished")
            assert kinds.count("started") == kinds.count("finished") == 1

    def test_a_run_that_fails_stops_no_other_and_is_named(self, executed: dict[str, Executed], name: str) -> None:
        done = executed[name]
        assert isinstance(done.raised, RunFailedError)
        assert f"{done.runs['broken'].run.run_id} failed: OSError: the disk of dreams is full." in str(done.raised)
        assert "finished" not in done.kinds("broken")
        assert not (done.folder / done.runs["broken"].run.run_id / "policy.safetensors").exists()

    def test_each_run_names_the_cache_that_it_was_trained_from(self, executed: dict[str, Executed], name: str) -> None:
        done = executed[name]
        caches = {lever: done.lines(lever)[0]["cache_id"] for lever in ("control", "delta-off", "narrow")}
        assert caches["control"] == caches["delta-off"] != caches["narrow"]
        bases = {(done.lines(lever)[0]["control_digest"], done.lines(lever)[0]["evaluation_id"]) for lever in caches}
        assert len(bases) == 1

    def test_its_progress_is_shown(self, executed: dict[str, Executed], name: str) -> None:
        assert any("train" in line for line in executed[name].said)


@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize("lever", ["control", "delta-off", "narrow"])
def test_where_a_run_is_trained_changes_no_bit(executed: dict[str, Executed], lever: str, name: str) -> None:
    here, there = executed["inline"], executed[name]
    assert here.policy(lever) == there.policy(lever)
    assert here.metrics(lever) == there.metrics(lever)
    assert sum(map(len, here.metrics(lever))) > 100


def test_auto_takes_processes_on_a_cpu_and_a_name_is_taken_at_its_word() -> None:
    assert choose_executor("auto", CPU) == "processes"
    assert choose_executor("inline", CPU) == "inline"
