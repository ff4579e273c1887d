"""Two `flowlab run` at one study: each trains what is free, waits for the rest, and ends with the same runs."""

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from flowlab.core.errors import RunFailedError
from flowlab.core.progress import SILENT
from flowlab.lab.launch import Where, carry_out, read_statuses, stand
from flowlab.lab.plan import PlannedRun, plan_runs
from flowlab.lab.run_dir import RunDir, lock_of
from flowlab.lab.sharing import has_ended, take_free, train_together
from flowlab.study.study import Study
from tests.lab.small_study import CPU, Said, Then


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowlab.lab.sharing.POLL_S", 0.001)


def planned(*run_ids: str) -> list[PlannedRun]:
    return [PlannedRun(SimpleNamespace(run_id=run_id), 0, "asked for", "") for run_id in run_ids]  # type: ignore[arg-type]


def finishes(runs: Path, executed: list[list[str]]) -> Callable[[list[PlannedRun]], None]:
    """An executor that ends every run that it gets hold of."""

    def execute(items: list[PlannedRun]) -> None:
        with ExitStack() as stack:
            folders = take_free(runs, [item.run.run_id for item in items], stack)
            executed.append(list(folders))
            for folder in folders.values():
                folder.journal.finished()

    return execute


def test_what_is_free_is_trained_and_what_another_trains_is_waited_for(runs: Path) -> None:
    other = RunDir(runs / "b")
    other.__enter__()

    def end_it() -> None:
        other.journal.finished()
        other.__exit__(None, None, None)

    executed: list[list[str]] = []
    said = Then(end_it)
    assert train_together(runs, planned("a", "b", "c"), finishes(runs, executed), said) == ["a", "c"]
    assert executed == [["a", "c"]]
    assert said.lines[0].startswith("waiting for b: another flowlab process trains what is left")


def test_a_run_whose_process_is_gone_is_trained_here(runs: Path) -> None:
    other = RunDir(runs / "b")
    other.__enter__()
    executed: list[list[str]] = []
    said = Then(lambda: other.__exit__(None, None, None))
    assert train_together(runs, planned("a", "b"), finishes(runs, executed), said) == ["a", "b"]
    assert executed == [["a"], ["b"]]


@pytest.mark.parametrize("word", ["finished", "crashed"])
def test_a_run_that_has_ended_is_not_waited_for_though_its_cohort_goes_on(runs: Path, word: str) -> None:
    with RunDir(runs / "a") as other:
        if word == "finished":
            other.journal.finished()
        else:
            other.journal.crashed("loss is not finite", 7)
        other.journal.wall_time({"train": 1.0})
        assert has_ended(runs / "a")
        assert train_together(runs, planned("a"), finishes(runs, []), Said()) == []


def test_a_run_that_was_taken_up_again_has_not_ended(runs: Path) -> None:
    with RunDir(runs / "a") as folder:
        folder.journal.crashed("loss is not finite", 7)
        folder.journal.started(
            attempt=1, device="cpu", cohort_size=1, threads=1, pid=1, environment={}, git_revision=""
        )
        folder.journal.event("note", "x" * 100_000)
    assert not has_ended(runs / "a")


def test_each_holds_what_the_other_lacks_and_both_go_on(runs: Path) -> None:
    """Nobody waits while holding a run: who got `a` first ends it, whoever else wants it too."""
    executed: list[list[str]] = []

    def race(items: list[PlannedRun]) -> None:
        with RunDir(runs / "b") as other:  # taken between the look and the start
            finishes(runs, executed)(items)
            other.journal.finished()

    assert train_together(runs, planned("a", "b"), race, Said()) == ["a", "b"]
    assert executed == [["a"]]


def test_an_executor_that_ends_nothing_is_not_asked_for_ever(runs: Path) -> None:
    with pytest.raises(RunFailedError, match="a did not end, and no process is at it"):
        train_together(runs, planned("a"), lambda items: None, Said())


HOLD = """
import sys
from contextlib import ExitStack
from pathlib import Path
from flowlab.core.locks import hold
with ExitStack() as stack:
    for path in sys.argv[1:]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(hold(Path(path)))
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_launch_waits_for_another_process_and_trains_what_that_leaves_when_killed(copy: Study) -> None:
    with patch("flowlab.lab.sealing.NUM_LEVERS", 100):
        ground = stand(copy, ["placebo"], CPU, SILENT, lambda foretold: None)
    runs = plan_runs(copy, ground, ["placebo"], [1001], {}, again=False)
    held, free = [item.run.run_id for item in runs[:2]], runs[2].run.run_id
    locks = [str(lock_of(copy.runs / run_id)) for run_id in held]
    with subprocess.Popen([sys.executable, "-c", HOLD, *locks], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        ended: list[list[bool]] = []

        def kill() -> None:
            ended.append([has_ended(copy.runs / run_id) for run_id in (*held, free)])
            other.send_signal(signal.SIGKILL)

        said = Then(kill, "waiting for")
        done = carry_out(copy, ground, runs, Where(CPU, "inline"), said, lambda planned: None)
    assert ended == [[False, False, True]], "what was free was trained before anything was waited for"
    assert sorted(done.trained) == sorted([*held, free])
    assert set(read_statuses(copy).values()) == {"finished"}


def test_ctrl_c_ends_the_waiting_at_once(runs: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with RunDir(runs / "a"), pytest.raises(KeyboardInterrupt):
        train_together(runs, planned("a"), finishes(runs, []), Then(interrupt))
