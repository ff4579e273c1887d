"""The second copy of runs in a bucket: what a machine that is lost leaves behind."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowlab.train.fit
from flowlab.cache.places import find_caches
from flowlab.core.errors import StoreError, UnknownNameError
from flowlab.core.object_store import ObjectStore
from flowlab.core.stores import store_at
from flowlab.evaluate.draw_bank import digest_bank
from flowlab.journal.journal import RUN_JOURNAL, read_journal
from flowlab.lab.banks import draws_of, kept_draws, of_draws
from flowlab.lab.checkpoints import find_runs, open_checkpoint
from flowlab.lab.copies import COPIED, bring_files, copy_ended
from flowlab.lab.registered import artifacts
from flowlab.study.study import Study, load_study
from flowlab.train.checkpoint import POLICY_FILE, RESUME_FILE
from tests.cli.tiny_study import ask, flowlab_here
from tests.lab.stored import STEPS, explore_one, numbers_of, stored_at

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "stores.md").read_text()


@pytest.fixture(scope="module")
def finished(built: Path, buckets: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study whose one run has ended, to be looked at only."""
    (buckets / "ended").mkdir()
    folder = Path(shutil.copytree(built, tmp_path_factory.mktemp("copied") / "study"))
    study = stored_at(load_study(folder), runs="s3://ended/runs")
    explore_one(study)
    return study


@pytest.fixture
def elsewhere(finished: Study, tmp_path: Path) -> Study:
    """The same study on a machine that has not trained its run."""
    shutil.copytree(finished.root, tmp_path / "study", ignore=shutil.ignore_patterns("set-*"))
    (tmp_path / "study" / "ledger.duckdb").unlink()
    return load_study(tmp_path / "study")


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing reaches a bucket."""

    def refuse(*_: object) -> None:
        raise StoreError("s3://somewhere cannot be reached.")

    with monkeypatch.context() as patched:
        for name in ("put", "put_new", "_get", "_listed"):
            patched.setattr(ObjectStore, name, refuse)
        yield


def only_run(study: Study) -> Path:
    (journal,) = study.runs.glob(f"*/{RUN_JOURNAL}")
    return journal.parent


def test_an_ended_run_is_there_whole(finished: Study):
    folder, copies = only_run(finished), finished.run_copies
    assert isinstance(copies, ObjectStore)
    place = copies / folder.name
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert place.all_keys() == sorted({*files} - {COPIED, "lock"})
    assert all(place.read(key) == (folder / key).read_bytes() for key in place.all_keys())
    assert {POLICY_FILE, RUN_JOURNAL, "run.json", "draws.zarr/zarr.json"} < {*place.all_keys()}


def test_what_was_copied_is_not_copied_again(finished: Study, cut: None):
    assert copy_ended(finished) == []


def test_a_policy_and_draws_that_are_only_there_are_found(finished: Study, elsewhere: Study):
    run_id = only_run(finished).name
    assert find_runs(elsewhere, ["set-"]) == [run_id]
    assert not (elsewhere.runs / run_id / POLICY_FILE).exists()  # only what is asked for is brought
    checkpoint = open_checkpoint(elsewhere, run_id)
    assert checkpoint.policy_digest == open_checkpoint(finished, run_id).policy_digest
    settings = checkpoint.evaluation
    wanted = {"policy_digest": checkpoint.policy_digest, "evaluation": of_draws(settings)}
    assert kept_draws(checkpoint.folder, wanted, checkpoint.frames()) is not None
    assert digest_bank(checkpoint.folder / "draws.zarr") == artifacts(checkpoint.folder)["draws.zarr"]
    assert numbers_of(elsewhere) == numbers_of(finished)
    assert draws_of(checkpoint, settings).model.shape[0] == len(checkpoint.frames())


def test_files_that_were_removed_here_come_back(elsewhere: Study):
    (run_id,) = find_runs(elsewhere, ["set-"])
    bring_files(elsewhere, run_id)
    policy = (elsewhere.runs / run_id / POLICY_FILE).read_bytes()
    (elsewhere.runs / run_id / POLICY_FILE).unlink()
    shutil.rmtree(elsewhere.runs / run_id / "draws.zarr")
    assert find_runs(elsewhere, [], everything=True) == [run_id]
    open_checkpoint(elsewhere, run_id)
    assert (elsewhere.runs / run_id / POLICY_FILE).read_bytes() == policy


def test_a_damaged_copy_of_a_policy_is_refused_by_its_url_and_not_kept(elsewhere: Study):
    (run_id,) = find_runs(elsewhere, ["set-"])
    path, store = elsewhere.runs / run_id / POLICY_FILE, store_at(elsewhere.run_copies / run_id)
    whole = store.read(POLICY_FILE)
    store.put(POLICY_FILE, whole[:-1] + bytes([whole[-1] ^ 1]))
    url = re.escape(f"{elsewhere.run_copies}/{run_id}/{POLICY_FILE}")
    with pytest.raises(StoreError, match=f"^{url} is not the file that the run's journal names"):
        open_checkpoint(elsewhere, run_id)
    assert not path.exists()
    store.put(POLICY_FILE, whole)
    open_checkpoint(elsewhere, run_id)
    assert path.read_bytes() == whole


def test_evaluate_scores_a_run_that_is_only_there_and_copies_what_is_new(elsewhere: Study, bucket: ObjectStore):
    copies = elsewhere.run_copies
    assert isinstance(copies, ObjectStore)
    for run_id in copies.folders():  # into a bucket that the test may change
        for key in (copies / run_id).all_keys():
            (bucket / run_id).put(key, (copies / run_id).read(key))
    path = elsewhere.root / "experiments.toml"
    path.write_text(path.read_text().replace(str(copies), str(bucket)))
    (scored,) = json.loads(flowlab_here(elsewhere.root, "evaluate", "set-", "--draws", "3", "--json").stdout)
    assert scored["drawn"] == 1
    assert bucket.folders() == sorted([scored["run_id"], *scored["sources"]])
    (source,) = scored["sources"]
    there = (bucket / source).all_keys()
    assert any(key.startswith("draws-") for key in there)
    assert (bucket / source).read(RUN_JOURNAL) == (elsewhere.runs / source / RUN_JOURNAL).read_bytes()


def test_a_run_that_has_ended_elsewhere_is_not_trained_again(finished: Study, elsewhere: Study):
    result = explore_one(elsewhere)
    assert result.problems == []
    assert (only_run(elsewhere) / RUN_JOURNAL).read_bytes() == (only_run(finished) / RUN_JOURNAL).read_bytes()
    assert ask(elsewhere.root, "select status from run_status") == [{"status": "finished"}]


def test_a_run_lost_with_its_machine_goes_on_elsewhere(
    copy: Study, finished: Study, bucket: ObjectStore, tmp_path: Path
):
    """The page's own story: its table, and its list of what another machine needs."""
    table = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    needed = re.search(r"copy of the study's folder \((.*?);", PAGE, re.DOTALL)
    assert table is not None and needed is not None
    path = copy.root / "experiments.toml"
    path.write_text(path.read_text() + table[1].replace("s3://bucket", str(bucket)))
    study, run_id = load_study(copy.root), only_run(finished).name
    runs = study.run_copies
    assert runs == bucket / "pilot" / "runs" and study.cache_home == bucket / "caches"
    command = [sys.executable, "-m", "tests.lab.stored", str(study.root)]
    with subprocess.Popen(command, cwd=ROOT) as trainer:
        deadline = time.monotonic() + 120
        while RESUME_FILE not in (runs / run_id).all_keys():
            assert time.monotonic() < deadline and trainer.poll() is None, "the run kept nothing to go on from"
            time.sleep(0.02)
        trainer.send_signal(signal.SIGKILL)
    for name in re.findall("`(.*?)`", needed[1]):
        kept, target = study.root / name, tmp_path / "other" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(kept, target) if kept.is_dir() else shutil.copy(kept, target)
    shutil.rmtree(study.root)

    other = load_study(tmp_path / "other")
    explore_one(other)
    (resumed,) = [line for line in read_journal(only_run(other) / RUN_JOURNAL)[0] if line.get("what") == "resumed"]
    assert 0 < int(resumed["detail"].removeprefix("from step ")) < STEPS
    assert numbers_of(other)[run_id][-1] == numbers_of(finished)[run_id][-1]
    assert RESUME_FILE not in (runs / run_id).all_keys()
    assert find_caches(other.caches) == []


def test_training_goes_on_without_the_bucket_and_copies_later(
    copy: Study, finished: Study, bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch
):
    study = stored_at(copy, runs=bucket)
    monkeypatch.setattr(flowlab.train.fit, "RESUME_EVERY_S", 0.0)
    monkeypatch.setattr(flowlab.train.fit, "RESUME_SHARE", 1e9)
    with monkeypatch.context() as away:
        away.setattr(ObjectStore, "put", lambda *_: (_ for _ in ()).throw(StoreError("s3://x cannot be reached.")))
        (problem,) = explore_one(study).problems
    assert problem.startswith(f"runs are not all copied to {bucket}: s3://x cannot be reached.")
    lines = read_journal(only_run(study) / RUN_JOURNAL)[0]
    assert [line["detail"] for line in lines if line.get("what") == "not-copied"] == ["s3://x cannot be reached."]
    assert numbers_of(study).keys() == numbers_of(finished).keys()
    assert bucket.folders() == []
    assert copy_ended(study) == []
    assert bucket.folders() == [only_run(study).name]


def test_a_bucket_that_is_not_reached_is_told_before_a_run_begins(copy: Study, buckets: Path):
    study = stored_at(copy, runs="s3://not-made/runs")
    with pytest.raises(StoreError, match="there is no such bucket"):
        explore_one(study)
    assert list(study.runs.glob(f"*/{RUN_JOURNAL}")) == []


def test_without_the_table_there_is_no_second_copy(copy: Study, cut: None):
    assert explore_one(copy).problems == [] and copy_ended(copy) == []
    with pytest.raises(UnknownNameError):
        find_runs(copy, ["nobody"])
