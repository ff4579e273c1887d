"""Predictions as a table: what three readers find in the file, and that its errors are those of the ledger."""

import json
import resource
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import polars
import pyarrow.parquet
import pytest

from flowlab.core.errors import DiskError, PluginError, UnknownNameError
from flowlab.evaluate.readouts import build_readout
from flowlab.lab import predictions as module
from flowlab.lab.bench import open_bench
from flowlab.lab.checkpoints import Checkpoint, find_runs, open_checkpoint
from flowlab.lab.predictions import Predictions, find_run, mean_l1, predict, read_out, write_predictions
from flowlab.lab.scoring import score_runs
from flowlab.ledger.connection import read
from flowlab.study.study import Study, load_study
from tests.cli.tiny_study import flowlab_here
from tests.evaluate.made_frames import made_frames
from tests.lab.small_study import CPU

OWN = '''
class Nearest:
    """A bound: the draw that is nearest to the truth."""
    name = "nearest"
    def __call__(self, draws, frames):
        error = abs(draws - frames.truth[:, None]).mean(axis=(2, 3))
        return draws[range(len(draws)), error.argmin(axis=1)]

class Flat:
    name = "flat"
    def __call__(self, draws, frames):
        return draws[:, 0, 0]

class Broken:
    name = "broken"
    def __call__(self, draws, frames):
        return draws.no_such_thing
'''


@pytest.fixture(scope="module")
def control(finished: Study) -> Checkpoint:
    return open_checkpoint(finished, find_runs(finished, ["control-1001"])[0])


@pytest.fixture(autouse=True)
def own_readouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bounds_of_ours.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


def by_hand() -> Predictions:
    """Three frames of drives a and b, three slots of two channels, a history of two."""
    truth = np.float32([[[0, 1]] * 3, [[0.5, 0]] * 3, [[1, 1]] * 3])
    frames = made_frames(truth, ["x", "y"], drive=[0, 1, 1], drive_ids=("a", "b"), now=[5, 3, 4])
    prediction = truth + np.float32([[0, 0.5], [0.25, -0.5], [0.5, 0.5]])
    return Predictions(frames, prediction, {"run_id": "r", "step": 2, "readout": "meank", "looks_at_truth": False})


def test_three_readers_find_the_same_rows_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0, 0.25 and 0.5 of x make 0.25 a frame; of y it is 0.5. Two row groups: no reader may lose the second."""
    monkeypatch.setattr(module, "GROUP_ROWS", 2)
    made, path = by_hand(), tmp_path / "out.parquet"
    write_predictions(made, path)
    expected = {
        "drive_id": ["a", "b", "b"],
        "frame_index": [[4, 5], [2, 3], [3, 4]],
        "time_us": [[400_000, 500_000], [200_000, 300_000], [300_000, 400_000]],
        "truth": made.frames.truth.tolist(),
        "prediction": made.prediction.tolist(),
        "l1": [[0.25, 0.5]] * 3,
    }
    assert pyarrow.parquet.read_table(path).to_pydict() == expected
    assert polars.read_parquet(path).to_dict(as_series=False) == expected
    rows = duckdb.sql(f"select * from '{path}'").fetchall()
    assert dict(zip(expected, map(list, zip(*rows, strict=True)), strict=True)) == expected
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 2


def test_each_reader_has_its_own_type_for_lists_of_fixed_length(tmp_path: Path) -> None:
    """As docs/predictions.md says; where this changes, the page has to."""
    path = tmp_path / "out.parquet"
    write_predictions(by_hand(), path)
    arrow = pyarrow.parquet.read_schema(path)
    assert str(arrow.field("truth").type) == "fixed_size_list<element: fixed_size_list<element: float>[2]>[3]"
    assert str(arrow.field("time_us").type) == "fixed_size_list<element: int64>[2]"
    schema = polars.read_parquet_schema(path)
    assert schema["truth"] == polars.Array(polars.Float32, (3, 2)) and schema["l1"] == polars.Array(polars.Float64, 2)
    assert polars.read_parquet(path)["truth"].to_numpy().shape == (3, 3, 2)
    asked = duckdb.sql(f"select truth, l1, truth::float[2][3] as fixed, truth[2][1] from '{path}'")
    assert [str(one) for one in asked.types] == ["FLOAT[][]", "DOUBLE[]", "FLOAT[2][3]", "FLOAT"]


def test_what_is_known_of_a_file_is_found_by_each_reader(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    write_predictions(by_hand(), path)
    about = by_hand().about
    assert json.loads(pyarrow.parquet.read_schema(path).metadata[b"flowlab"]) == about
    assert json.loads(polars.read_parquet_metadata(path)["flowlab"]) == about
    question = f"select decode(value)::json->>'run_id' from parquet_kv_metadata('{path}') where decode(key) = 'flowlab'"
    assert duckdb.sql(question).fetchone() == ("r",)


def test_no_frames_make_a_file_without_rows(tmp_path: Path) -> None:
    made = by_hand()
    nothing = Predictions(made.frames.take(np.zeros(0, np.int64)), made.prediction[:0], made.about)
    write_predictions(nothing, tmp_path / "out.parquet")
    found = polars.read_parquet(tmp_path / "out.parquet")
    assert found.shape == (0, 6) and found.schema["truth"] == polars.Array(polars.Float32, (3, 2))


@pytest.mark.parametrize("readout", ["single", "meank", "mediank", "mode", "vote-gated-0_02", "best-draw"])
@pytest.mark.parametrize("run", ["control-1001", "regression", "rungs"])
def test_the_means_of_the_errors_are_the_ledgers_l1(finished: Study, run: str, readout: str) -> None:
    (run_id,) = find_runs(finished, [run])
    checkpoint = open_checkpoint(finished, run_id)
    made = predict(checkpoint, readout)
    question = """
        select slice, channel, value from final_metrics
        where run_id = ? and metric = 'l1' and readout = ? and drive = '' and slice in ('overall', 'spike_frame')"""
    told = {(row[0], row[1]): row[2] for row in read(finished.ledger, question, [run_id, readout]).rows}
    assert len(told) == 8 and all(told.values())
    spikes = (np.abs(made.frames.truth[..., 2]) > 0.5).any(axis=1)
    masks = {"overall": np.ones(len(made), bool), "spike_frame": spikes}
    means = mean_l1(checkpoint, made)
    for (where, channel), value in told.items():
        column = made.l1[masks[where]].mean(axis=0)
        mean = column[made.frames.channels.index(channel)] if channel else column.mean()
        assert mean == pytest.approx(value, abs=1e-6)
        assert means[where][channel] == pytest.approx(value, abs=1e-6)


def test_rows_stand_in_the_order_of_drive_and_frame(control: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order of the frames in the cache, and each with its own prediction."""
    frames = control.frames()
    expected = predict(control, "meank")
    mixed = frames.take(np.random.default_rng(0).permutation(len(frames)))
    renamed = replace(mixed, drive=np.arange(len(mixed)) % 2, drive_ids=("zebra", "ape"))
    monkeypatch.setattr(Checkpoint, "frames", lambda self: mixed)
    made = predict(control, "meank")
    np.testing.assert_array_equal(made.frames.now, expected.frames.now)
    np.testing.assert_allclose(made.prediction, expected.prediction, atol=1e-6)
    monkeypatch.setattr(Checkpoint, "frames", lambda self: renamed)
    found = predict(control, "single").frames
    keys = list(zip(found.frame_drives, found.now.tolist(), strict=True))
    assert keys == sorted(keys) and keys[0][0] == "ape" and keys[-1][0] == "zebra"


def test_a_readout_that_looks_at_the_truth_is_marked(control: Checkpoint) -> None:
    """Its own bounds flowlab knows by name: on frames of one mode they are what any readout is."""
    assert predict(control, "meank").about["looks_at_truth"] is False
    assert predict(control, "vote-committed-0_1").about["looks_at_truth"] is False
    for bound in ("oracle-mode", "best-draw", "vote-bound-0_1"):
        assert predict(control, bound).about["looks_at_truth"] is True
    assert predict(control, "bounds_of_ours:Nearest").about["looks_at_truth"] is True


def test_a_readout_that_fails_is_told_in_a_sentence(control: Checkpoint) -> None:
    with pytest.raises(PluginError, match=r"readout 'flat' gave an array \(\d+, 3\), expected \(\d+, 6, 3\)"):
        predict(control, "bounds_of_ours:Flat")
    with pytest.raises(PluginError, match=r"readout 'broken' fails on draws \(79, 2, 6, 3\): AttributeError"):
        predict(control, "bounds_of_ours:Broken")
    with pytest.raises(UnknownNameError, match="did you mean 'meank'"):
        predict(control, "menak")


def test_predictions_are_held_as_the_evaluation_says() -> None:
    frames = made_frames(np.zeros((1, 1, 1), np.float32), ["gas"])
    draws = np.full((1, 2, 1, 1), 1.5, np.float32)
    assert read_out(build_readout("meank"), draws, frames, clip=True).item() == 1.0
    assert read_out(build_readout("meank"), draws, frames, clip=False).item() == 1.5


def test_a_file_says_whose_predictions_it_has(control: Checkpoint) -> None:
    about = predict(control, "meank").about
    journal = (control.folder / "journal.jsonl").read_text().splitlines()
    (policy,) = [line for line in map(json.loads, journal) if line.get("name") == "policy.safetensors"]
    assert about["policy_digest"] == policy["digest"] and about["step"] == 2
    assert about["evaluation"] == control.record["evaluation"]
    assert about["channels"] == ["gas", "brake", "steering"] and about["ranges"]["steering"] == [-1.0, 1.0]
    assert about["columns"]["truth"] == {"axes": ["slot", "channel"], "unit": "raw action"}


def test_a_scoring_is_predicted_as_it_was_scored(finished: Study, tmp_path: Path) -> None:
    """Under its own id with three draws; under its run's with the two that the run was scored by."""
    study = load_study(Path(shutil.copytree(finished.root, tmp_path / "study")))
    (trained,) = find_runs(study, ["control-1001"])
    (scored,) = score_runs(open_bench(study, {"draws": 3}, CPU), [trained])
    assert find_run(study, scored.run_id) == scored.run_id != find_run(study, "control-1001") == trained
    (value,) = (row.value for row in scored.rows if row[:4] == ("l1", "", "overall", "meank") and not row.drive)
    made = predict(open_checkpoint(study, scored.run_id), "meank")
    assert made.l1.mean() == pytest.approx(value, abs=1e-6)
    assert made.about["run_id"] == scored.run_id and made.about["evaluation"]["draws"] == 3
    assert predict(open_checkpoint(study, trained), "meank").l1.mean() != made.l1.mean()


def test_a_disk_that_refuses_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    path.write_bytes(b"old")
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(DiskError, match=r"out\.parquet: File too large"):
            write_predictions(by_hand(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old" and [one.name for one in tmp_path.glob("out*")] == ["out.parquet"]


def test_the_command_writes_a_table_and_a_page(finished: Study, tmp_path: Path) -> None:
    file, plot = tmp_path / "p.parquet", tmp_path / "p.html"
    done = flowlab_here(finished.root, "predict", "control-1001", "--out", str(file), "--plot", str(plot), "--json")
    told = json.loads(done.stdout)
    assert told["file"] == str(file) and told["plot"] == str(plot) and told["readout"] == "meank"
    found = polars.read_parquet(file)
    assert told["rows"] == len(found)
    assert found["l1"].to_numpy().mean() == pytest.approx(told["l1"]["overall"][""], abs=1e-12)
    assert plot.read_text().startswith("<!doctype html>")


def test_the_command_shows_means_within_80_columns(finished: Study, tmp_path: Path) -> None:
    done = flowlab_here(finished.root, "predict", "rungs", "--step", "7", "--out", str(tmp_path / "p.parquet"))
    assert "spike_frame" in done.stdout and max(map(len, done.stdout.splitlines())) <= 80
    assert json.loads(polars.read_parquet_metadata(tmp_path / "p.parquet")["flowlab"])["step"] == 7


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "give --out FILE.parquet"),
        (["--out", "p.csv"], "expected the name of a file that ends in .parquet"),
        (["--plot", "p.svg"], "expected the name of a file that ends in .html"),
        (["--out", "nowhere/p.parquet"], "there is no folder nowhere. Make it"),
        (["--out", "p.parquet", "--readout", "single-mean"], "unknown readout 'single-mean'"),
        (["--out", "p.parquet", "--step", "1"], "has no policy after 1 steps"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(finished: Study, options: list[str], told: str) -> None:
    done = flowlab_here(finished.root, "predict", "control-1001", *options, code=2)
    assert told in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list(finished.root.glob("p.*"))
