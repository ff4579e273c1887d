"""`flowlab.open_study`: what it answers, and that nothing in the study's folder changes meanwhile."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import polars
import pytest
import torch

import flowlab
from flowlab.core.errors import FlowlabError, LedgerError, MissingError, PolicyError, UnknownNameError
from flowlab.ledger.connection import open_ledger
from flowlab.notebook.study import OpenStudy
from flowlab.study.study import Study
from tests.cli.tiny_study import flowlab_here

OWN = '''
class Last:
    name = "last"
    def __call__(self, draws, frames):
        return draws[:, -1]

class Repeat:
    """Needs the history."""
    name = "repeat"
    def __call__(self, draws, frames):
        return frames.history_action[:, -1:].repeat(draws.shape[2], axis=1)
'''


@pytest.fixture
def study(finished: Study) -> OpenStudy:
    return flowlab.open_study(finished.root)


@pytest.fixture
def copy(finished: Study, tmp_path: Path) -> Path:
    """The study's folder, for one test to change."""
    return Path(shutil.copytree(finished.root, tmp_path / "study"))


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file and folder below: when it changed, its permissions, and what it holds."""
    found = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        told = path.stat()
        found[str(path)] = (told.st_mtime_ns, told.st_mode, b"" if path.is_dir() else path.read_bytes())
    return found


def use_all(folder: Path) -> None:
    study = flowlab.open_study(folder)
    repr(study)
    study.runs()
    study.sql("select * from verdicts")
    for name in ("control-1001", "regression"):
        run = study.run(name)
        repr(run), run.policy(), run.metrics(), run.draws()
        run.predict(run.frames().condition[:3], readout="readouts_beside:Last")
        run.predictions("readouts_beside:Last")


def test_nothing_in_the_folder_changes_and_nothing_is_added(copy: Path) -> None:
    """Not even what is made in passing elsewhere: a lock beside the ledger, stats, a compiled plug-in."""
    (copy / "readouts_beside.py").write_text(OWN)
    (copy / "ledger.duckdb.lock").unlink()
    for stats in (copy / "caches" / "stats").iterdir():
        stats.unlink()
    before = everything(copy)
    try:
        use_all(copy)
        assert everything(copy) == before
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = everything(copy)
        use_all(copy)
        assert everything(copy) == before
    finally:
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755)
        sys.modules.pop("readouts_beside", None)


def test_import_flowlab_brings_nothing_in() -> None:
    heavy = ("torch", "numpy", "polars", "duckdb", "pydantic", "flowlab.study", "flowlab.notebook")
    code = (
        f"import sys, flowlab; print([name for name in {heavy!r} if name in sys.modules], 'open_study' in dir(flowlab))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[] True"
    with pytest.raises(AttributeError, match="has no attribute 'no_such'"):
        flowlab.no_such  # noqa: B018


def test_runs_and_questions_are_data_frames(study: OpenStudy) -> None:
    runs = study.runs()
    assert isinstance(runs, polars.DataFrame) and set(runs["status"]) == {"finished"}
    assert sorted(runs["lever"]) == ["control", "control", "regression", "rungs"]
    asked = study.sql("select count(*) as num from runs where lever = ?", ["control"])
    assert asked.to_dicts() == [{"num": 2}]
    with pytest.raises(LedgerError, match="only answers questions"):
        study.sql("drop table runs")


def test_a_run_is_found_by_the_beginning_of_its_id(study: OpenStudy) -> None:
    run = study.run("reg")
    assert run.run_id.startswith("regression-1001-") and run.record["lever"] == "regression"
    assert "regression" in repr(run) and "slots of longitudinal, steering" in repr(run.policy())
    assert study.run("rungs", step=7).policy().step == 7
    with pytest.raises(UnknownNameError, match="several begin so"):
        study.run("control")


def test_draws_know_their_frames_and_are_those_that_were_scored(study: OpenStudy) -> None:
    run = study.run("control-1001")
    draws = run.draws()
    assert isinstance(draws, np.ndarray) and draws.dtype == np.float32
    assert draws.shape == (len(draws.frames), 2, 6, 3) and draws is run.draws()
    clipped = np.asarray(draws).mean(axis=1).clip([0, 0, -1], [1, 1, 1])
    error = np.abs(clipped - draws.frames.truth).mean(axis=(0, 1))
    final = run.metrics().filter(metric="l1", slice="overall", readout="meank", step=-1, drive="")
    told = dict(zip(final["channel"], final["value"], strict=True))
    assert error.tolist() == pytest.approx([told[name] for name in draws.frames.channels], abs=1e-5)
    assert f"{len(draws)} frames x 2 draws x 6 slots of gas, brake, steering" in repr(draws)
    assert type(draws[0]) is type(draws.mean(axis=1)) is type(draws + 1) is np.ndarray


def test_predict_gives_the_same_chunks_for_the_same_rows(study: OpenStudy) -> None:
    """Whatever the kind of array, how many rows follow, and whether all tokens or those that are seen are given."""
    run = study.run("control-1001")
    condition = run.frames().condition[:5]
    chunks = run.predict(condition)
    assert chunks.shape == (5, 6, 3) and chunks.dtype == np.float32
    np.testing.assert_array_equal(run.predict(condition.numpy()), chunks)
    np.testing.assert_allclose(run.predict(condition[:2].float().tolist()), chunks[:2], atol=1e-6)
    np.testing.assert_array_equal(run.predict(condition, draws=2, readout="meank"), chunks)
    assert not np.array_equal(run.predict(condition, seed=1), chunks)
    first = run.predict(condition, readout="single", draws=1)
    np.testing.assert_allclose(run.predict(condition, readout="single", draws=8), first, atol=1e-6)


def test_a_policy_without_noise_predicts_what_it_was_scored_on(study: OpenStudy) -> None:
    run = study.run("regression")
    made = run.predictions("single")
    rows = [run.frames().now.tolist().index(now) for now in made.frames.now.tolist()]
    np.testing.assert_allclose(run.predict(run.frames().condition, seed=9)[rows], made.prediction, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda condition: condition[0], r"shape \(\d+, 16\), expected \(N, \d+, 16\)"),
        (lambda condition: condition[:0], r"shape \(0, \d+, 16\), expected"),
        (lambda condition: condition[:, :1], r"shape \(\d+, 1, 16\), expected"),
        (lambda condition: condition * torch.inf, "numbers that are not finite"),
    ],
)
def test_a_condition_that_the_policy_cannot_see_is_refused(study: OpenStudy, given, told: str) -> None:
    run = study.run("control-1001")
    with pytest.raises(PolicyError, match=told):
        run.predict(given(run.frames().condition))


def test_draws_and_seeds_that_do_not_exist_are_refused(study: OpenStudy) -> None:
    run = study.run("control-1001")
    for numbers in ({"draws": 0}, {"draws": 1.5}, {"seed": -1}):
        with pytest.raises(PolicyError, match="expected whole numbers"):
            run.predict(run.frames().condition[:1], **numbers)


def test_a_readout_that_needs_more_than_a_condition_is_refused(
    study: OpenStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "readouts_of_ours.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    run = study.run("control-1001")
    with pytest.raises(PolicyError, match=r"looks at more than draws and conditions .* Use \.predictions\("):
        run.predict(run.frames().condition[:2], readout="readouts_of_ours:Repeat")
    with pytest.raises(PolicyError, match="looks at more than draws and conditions"):
        run.predict(run.frames().condition[:2], readout="vote-committed-0_02")
    assert run.predictions("readouts_of_ours:Repeat").about["readout"].startswith("repeat@")


def test_the_predictions_are_those_of_the_command(study: OpenStudy, tmp_path: Path) -> None:
    file = tmp_path / "p.parquet"
    flowlab_here(study.root, "predict", "control-1001", "--readout", "mediank", "--out", str(file))
    table = polars.from_arrow(study.run("control-1001").predictions("mediank").table())
    assert table.equals(polars.read_parquet(file))


def test_what_is_not_in_the_ledger_yet_is_warned_of(copy: Path) -> None:
    journal = next(copy.glob("runs/control-1001-*/journal.jsonl"))
    with journal.open("ab") as file:
        file.write(b'{"kind":"event","time_us":1,"what":"note","detail":"later"}\n')
    study = flowlab.open_study(copy)
    with pytest.warns(UserWarning, match="^1 line of journals is not in the ledger yet") as caught:
        assert len(study.runs()) == 4
    assert caught[0].filename == __file__
    with warnings.catch_warnings(action="error"):
        study.run("control-1001").draws()  # asks no ledger


def test_a_ledger_that_is_not_there_is_not_made(copy: Path) -> None:
    (copy / "ledger.duckdb").unlink()
    with pytest.raises(MissingError, match=r"lines of journals are to be read into it\. Any command does that"):
        flowlab.open_study(copy).sql("select 1")
    assert not (copy / "ledger.duckdb").exists()


def test_a_ledger_of_another_flowlab_is_not_brought_up_to_date(copy: Path) -> None:
    with open_ledger(copy / "ledger.duckdb", read_only=False) as connection:
        connection.execute("delete from views_applied")
    with pytest.raises(LedgerError, match="is of another flowlab, and nothing is written from here"):
        flowlab.open_study(copy).runs()


def test_the_study_is_found_as_the_command_finds_it(finished: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.runs)
    assert flowlab.open_study().root == flowlab.open_study(os.fspath(finished.root)).root == finished.root
    assert repr(flowlab.open_study()).startswith(f"study tiny in {finished.root}: 4 runs.")
    with pytest.raises(FlowlabError):
        flowlab.open_study(finished.runs)
