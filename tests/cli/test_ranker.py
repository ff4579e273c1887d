"""`flowlab ranker` on a small study: files, names, rows; and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flowlab.core.digest import digest_files
from flowlab.core.errors import MissingError, PolicyError, StudyError, UnknownNameError
from flowlab.lab.checkpoints import find_runs, open_checkpoint
from flowlab.lab.late_rows import read_rows
from flowlab.lab.ranker_files import find_readout, for_ranking, load_ranker, open_for_ranking, readouts_of
from flowlab.lab.rankers import train_draws, train_rankers
from flowlab.lab.rankings import evaluate_rankers
from flowlab.study.ranker import RankerSettings
from flowlab.study.study import Study
from tests.cli.tiny_study import ask, flowlab_here
from tests.lab.small_study import CPU, train, write_small

LEVERS = """
[levers.regression]
set = { "objective.kind" = "regression", "objective.delta_weight" = 0.0 }
[ranker]
width = 16
epochs = 2
draws = 3
"""
TABLE = RankerSettings(width=16, epochs=2, draws=3)
NAME = "ranker-width16-draws3-epochs2"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A small study with the control at two seeds, and a regression."""
    study = write_small(tmp_path_factory.mktemp("ranker"), LEVERS)
    train(study, "regression")
    return study


def run_of(study: Study, begins: str) -> str:
    return find_runs(study, [begins])[0]


def file_of(study: Study, run_id: str, name: str = NAME) -> Path:
    return study.runs / run_id / f"{name}.safetensors"


def bytes_of(study: Study, run_ids: list[str], settings: RankerSettings) -> dict[str, bytes]:
    """Each run's ranker, trained anew: all of them in one call."""
    made = train_rankers(study, run_ids, settings, CPU)
    paths = {one.run_id: study.runs / one.run_id / one.file for one in made}
    content = {run_id: path.read_bytes() for run_id, path in paths.items()}
    for path in paths.values():
        path.unlink()
    return content


def test_train_then_evaluate_then_the_ledger_has_the_rows(study: Study) -> None:
    trained = json.loads(flowlab_here(study.root, "ranker", "train", "--lever", "control", "--json").stdout)
    assert [(one["ranker"], one["num_draws"]) for one in trained] == [(NAME, 3)] * 2
    assert all(np.isfinite(one["loss"]) for one in trained)
    again = flowlab_here(study.root, "ranker", "train", "--lever", "control")
    assert "nothing to train" in again.stderr and again.stdout == ""
    found = json.loads(flowlab_here(study.root, "ranker", "evaluate", "--lever", "control", "--json").stdout)
    rows = ask(
        study.root,
        "select run_id, readout, metric, value from metrics where readout like 'ranker%' and slice = 'overall' "
        "and channel = 'steering' and drive = '' and metric in ('l1', 'ranker_hit_rate')",
    )
    stored = {(row["run_id"], row["metric"], row["readout"]): row["value"] for row in rows}
    for one in found:
        own = {name: values["overall"] for name, values in one["l1"].items() if name.startswith("ranker")}
        assert sorted(own) == sorted(f"ranker{kind}{NAME[6:]}" for kind in ("", "-top1", "-top4", "-mode"))
        for name, value in own.items():
            assert stored[one["run_id"], "l1", name] == pytest.approx(value, abs=1e-9)
        top = f"ranker-top1{NAME[6:]}"
        assert stored[one["run_id"], "ranker_hit_rate", top] == one["choice"]["ranker_hit_rate"]["overall"]
        assert one["l1"]["best-draw"]["overall"] <= one["l1"][top]["overall"]
    assert [one["num_new"] for one in found] != [0, 0]
    assert [one.num_new for one in evaluate_rankers(study, find_runs(study, [], "control"), TABLE, CPU)] == [0, 0]


def test_what_it_is_compared_with_are_the_numbers_of_the_run(study: Study) -> None:
    run_id = run_of(study, "control-1001")
    train_rankers(study, [run_id], TABLE, CPU)
    (shown,) = evaluate_rankers(study, [run_id], TABLE, CPU)
    on_record = read_rows(study, run_id)
    for readout in ("meank", "mediank", "mode", "oracle-mode", "best-draw"):
        for where, value in shown.l1[readout].items():
            assert value == pytest.approx(on_record["l1", "steering", where, readout, -1, ""], abs=1e-9)


def test_a_table_for_each_run_and_their_mean_fit_80_columns(study: Study) -> None:
    train_rankers(study, find_runs(study, [], "control"), TABLE, CPU)
    text = flowlab_here(study.root, "ranker", "evaluate", "--lever", "control").stdout
    assert text.count("ranker_hit_rate") == 3 and "mean over 2 runs: L1 steering, 2 draws a frame" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_a_ranker_has_the_same_bits_again_and_whoever_is_beside_it(study: Study) -> None:
    runs = find_runs(study, [], "control")
    together = bytes_of(study, runs, TABLE)
    for run_id in runs:
        assert bytes_of(study, [run_id], TABLE) == {run_id: together[run_id]}


def test_it_is_trained_on_the_train_split_by_noise_of_its_own(study: Study) -> None:
    run = open_for_ranking(study, run_of(study, "control-1001"), TABLE, CPU)
    frames = run.checkpoint.frames("train")
    drives = {frames.drive_ids[drive] for drive in np.unique(frames.drive)}
    val = run.checkpoint.frames("val")
    assert drives and not drives & {val.drive_ids[drive] for drive in np.unique(val.drive)}
    draws = train_draws(run, frames)
    other = train_draws(open_for_ranking(study, run_of(study, "control-1002"), TABLE, CPU), frames)
    assert draws.shape == (len(frames), 3, 6, 3)
    assert not np.array_equal(draws, other)
    np.testing.assert_array_equal(draws, train_draws(run, frames))


def test_options_stand_in_for_keys_of_the_table(study: Study) -> None:
    run_id, options = (
        run_of(study, "control-1001"),
        ["--loss", "pointwise", "--unweighted", "--channel", "gas", "--epochs", "1"],
    )
    flowlab_here(study.root, "ranker", "train", run_id, *options)
    shown = json.loads(flowlab_here(study.root, "ranker", "evaluate", run_id, *options, "--top", "2", "--json").stdout)
    assert (shown[0]["ranker"], shown[0]["channel"]) == (
        "ranker-width16-pointwise-unweighted-draws3-epochs1-of-gas",
        "gas",
    )
    assert "ranker-top2-width16-pointwise-unweighted-draws3-epochs1-of-gas" in shown[0]["l1"]


def test_no_more_frames_are_drawn_for_than_asked_and_they_lie_evenly(study: Study) -> None:
    (made,) = train_rankers(study, [run_of(study, "control-1001")], TABLE.model_copy(update={"frames": 20}), CPU)
    assert (made.ranker, made.num_frames) == ("ranker-width16-draws3-frames20-epochs2", 20)


def test_a_readout_of_it_is_one_by_the_protocol(study: Study) -> None:
    run_id = run_of(study, "control-1001")
    train_rankers(study, [run_id], TABLE, CPU)
    run = open_for_ranking(study, run_id, TABLE, CPU)
    frames = run.checkpoint.frames()
    draws = np.repeat(frames.truth[:, None], 2, axis=1)
    for one in readouts_of(run):
        np.testing.assert_allclose(one(draws, frames), frames.truth, atol=1e-6)


def test_a_readout_is_found_by_its_name_or_refused_with_those_there_are(study: Study) -> None:
    run_id = run_of(study, "control-1001")
    train_rankers(study, [run_id], TABLE, CPU)
    checkpoint = open_checkpoint(study, run_id)
    assert find_readout(checkpoint, f"ranker-mode{NAME[6:]}").kind == "mode"
    with pytest.raises(UnknownNameError, match=f"unknown readout 'ranker' in the rankers of run {run_id}.*{NAME}"):
        find_readout(checkpoint, "ranker")


def test_a_ranker_of_another_checkpoint_is_refused(study: Study) -> None:
    own, other = run_of(study, "control-1001"), run_of(study, "control-1002")
    train_rankers(study, [own, other], TABLE, CPU)
    content = file_of(study, own).read_bytes()
    file_of(study, own).write_bytes(file_of(study, other).read_bytes())
    told = flowlab_here(study.root, "ranker", "evaluate", own, code=2).stderr
    assert f"of run {other}, and that of run {own} is" in told and "a ranker is of one policy alone" in told
    (made,) = train_rankers(study, [own], TABLE, CPU)  # trained anew, and the same
    assert made.loss is not None and file_of(study, own).read_bytes() == content


def test_a_ranker_that_was_changed_or_is_not_on_record_is_refused(study: Study) -> None:
    run_id = run_of(study, "control-1001")
    train_rankers(study, [run_id], TABLE, CPU)
    path, run = file_of(study, run_id), open_for_ranking(study, run_id, TABLE, CPU)
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\x00\x00\x00\x01")
    with pytest.raises(PolicyError, match="is not the file that the run's journal names"):
        load_ranker(run)
    path.write_bytes(b"nothing")
    with pytest.raises(PolicyError, match="is not a readable ranker"):
        load_ranker(run)
    path.write_bytes(content)
    load_ranker(run)


def test_a_ranker_of_other_settings_under_that_name_is_refused(study: Study) -> None:
    run_id = run_of(study, "control-1001")
    train_rankers(study, [run_id], TABLE.model_copy(update={"tau": 0.5}), CPU)
    other = file_of(study, run_id, "ranker-width16-tau0_5-draws3-epochs2")
    path = file_of(study, run_id)
    path.unlink(missing_ok=True)
    other.rename(path)
    with pytest.raises(PolicyError, match=r"has settings tau = 0[.]5, expected tau = 0[.]02"):
        load_ranker(open_for_ranking(study, run_id, TABLE, CPU))
    path.unlink()
    with pytest.raises(MissingError, match="has no ranker of these settings"):
        load_ranker(open_for_ranking(study, run_id, TABLE, CPU))


def test_its_digest_is_on_record_and_it_says_what_it_is_of(study: Study) -> None:
    run_id = run_of(study, "control-1001")
    train_rankers(study, [run_id], TABLE, CPU)
    flowlab_here(study.root, "status")
    kept = ask(study.root, f"select digest from artifacts where name = '{NAME}.safetensors' and run_id = '{run_id}'")
    assert digest_files([file_of(study, run_id)]) in [one["digest"] for one in kept]
    header = file_of(study, run_id).read_bytes()[:4000].decode(errors="replace")
    assert open_checkpoint(study, run_id).policy_digest in header


def test_a_policy_of_one_draw_is_refused(study: Study) -> None:
    regression = run_of(study, "regression")
    told = flowlab_here(study.root, "ranker", "train", regression, code=2).stderr
    assert f"run {regression} is deterministic: it has one draw a frame" in told
    checkpoint = open_checkpoint(study, run_of(study, "control-1001"))
    recipe = checkpoint.record["recipe"]
    one_draw = recipe | {"evaluation": recipe["evaluation"] | {"draws": 1}}
    with pytest.raises(StudyError, match="evaluated by one draw a frame"):
        for_ranking(replace(checkpoint, record=checkpoint.record | {"recipe": one_draw}), TABLE)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train"], "name runs or a lever. Example: flowlab ranker train --lever control"),
        (["train", "control-1001", "--width", "12"], "ranker: width: got 12, expected a multiple of 8"),
        (["train", "control-1001", "--channel", "stering"], "did you mean 'steering'?"),
        (["evaluate", "control-1001", "--tau", "0.3"], "it has"),
        (["evaluate", "control-1001", "--temperature", "0"], "ranker: temperature: got 0.0, expected"),
        (["train", "nobody"], "unknown run 'nobody'"),
        (["train", "control-1001", "--loss", "pairwise"], "'listwise', 'pointwise'"),
    ],
)
def test_bad_input_is_one_sentence(study: Study, arguments: list[str], expected: str) -> None:
    before = sorted(study.runs.rglob("*"))
    told = flowlab_here(study.root, "ranker", *arguments, code=2).stderr
    assert expected in told and told.count("error:") == 1
    assert sorted(study.runs.rglob("*")) == before


def test_training_that_is_stopped_leaves_nothing_half_written(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = run_of(study, "control-1002")
    settings = TABLE.model_copy(update={"tau": 0.07})
    before = sorted(study.runs.rglob("*"))

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flowlab.lab.rankers.fit_rankers", stop)
    with pytest.raises(KeyboardInterrupt):
        train_rankers(study, [run_id], settings, CPU)
    assert sorted(study.runs.rglob("*")) == before
    assert torch.get_num_threads() >= 1


def test_predictions_are_read_out_by_the_runs_own_ranker(study: Study, tmp_path: Path) -> None:
    train_rankers(study, [run_of(study, "control-1001")], TABLE, CPU)
    name = f"ranker-top1-{NAME.removeprefix('ranker-')}"
    done = flowlab_here(
        study.root, "predict", "control-1001", "--readout", name, "--out", str(tmp_path / "p.parquet"), "--json"
    )
    assert json.loads(done.stdout)["rows"] == 79
    refused = flowlab_here(study.root, "evaluate", "control-1001", "--readout", name, code=2)
    assert "is each run's own ranker's. Give: flowlab ranker evaluate" in refused.stderr
