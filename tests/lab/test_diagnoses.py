"""All diagnoses of one finished run, by the command line, and what is refused."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch
from xml.etree import ElementTree

import numpy as np
import pytest

from flowlab.cli.diagnose import What
from flowlab.core.errors import CacheMismatchError, MissingError, PolicyError
from flowlab.core.vocabulary import DIAGNOSES
from flowlab.evaluate.diagnose.rank import cache_rank, describe_rank, effective_rank, spectra
from flowlab.lab.checkpoints import find_runs, open_checkpoint
from flowlab.lab.diagnoses import channel_of, diagnose, subject_of
from flowlab.lab.eyes import open_eyes
from flowlab.lab.launch import Where, launch
from flowlab.study.study import Study
from tests.cli.tiny_study import ask, flowlab_here
from tests.lab.small_study import CPU, Said, write_small

LEVERS = """
[levers.normal-only]
set = { "cache.variants" = ["normal"] }
[levers.regression]
set = { "objective.kind" = "regression", "decoder.kind" = "slot-queries" }
"""
RUN = "control-1001"
BUILT = "built.txt"  # what `cache build` said


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A small study with the control and two levers trained at seed 1001."""
    study = write_small(tmp_path_factory.mktemp("diagnoses"), LEVERS)
    (study.root / BUILT).write_text(flowlab_here(study.root, "cache", "build").stderr)
    where, show = Where(CPU, "inline"), lambda *_: None
    levers = ["regression", "normal-only"]
    launch(study, levers, [1001], where, again=False, progress=Said(), show=show, announce=lambda _: None)
    return study


@pytest.fixture(autouse=True)
def coarse() -> Iterator[None]:
    """The sweep of solvers asks a decoder hundreds of times; fewer will do here."""
    path = "flowlab.evaluate.diagnose.integrators"
    with patch(f"{path}.EVALUATIONS", (1, 2, 4)), patch(f"{path}.FINE", ("heun", 8)):
        yield


def test_the_command_knows_every_diagnosis() -> None:
    assert [one.value for one in What] == list(DIAGNOSES)


@pytest.mark.parametrize("name", DIAGNOSES)
def test_a_diagnosis_is_a_table_rows_and_a_picture(study: Study, name: str) -> None:
    (run_id,) = find_runs(study, [RUN])
    shown = flowlab_here(study.root, "diagnose", name, RUN)
    assert max(len(line.rstrip()) for line in shown.stdout.splitlines()) <= 80
    picture = study.runs / run_id / f"diagnose-{name}.html"
    assert f"runs/{run_id}/diagnose-{name}.html" in shown.stderr.replace("\n", "")
    for svg in re.findall(r"<svg.*?</svg>", picture.read_text(), re.DOTALL):
        ElementTree.fromstring(svg)
    assert "<svg" in picture.read_text() and "<script" not in picture.read_text() and "nan" not in picture.read_text()
    names = ", ".join(f"'{metric}'" for metric in DIAGNOSES[name])
    rows = ask(study.root, f"select * from final_metrics where run_id = '{run_id}' and metric in ({names})")
    assert {row["metric"] for row in rows} == set(DIAGNOSES[name])


@pytest.mark.parametrize("name", ["fan", "attribution"])
def test_the_same_run_gives_the_same_numbers_and_picture(study: Study, name: str, tmp_path: Path) -> None:
    first = diagnose(study, name, RUN, picture=tmp_path / "1.html")
    again = diagnose(study, name, RUN, picture=tmp_path / "2.html")
    assert again.num_new == 0
    assert again.diagnosis.rows == first.diagnosis.rows
    assert (tmp_path / "2.html").read_bytes() == (tmp_path / "1.html").read_bytes()


def test_a_look_at_some_frames_leaves_the_run_as_it_is(study: Study, tmp_path: Path) -> None:
    (run_id,) = find_runs(study, [RUN])
    journal = (study.runs / run_id / "journal.jsonl").read_bytes()
    picture = tmp_path / "some.html"
    told = json.loads(
        flowlab_here(study.root, "diagnose", "rollout", RUN, "--frames", "5", "--out", str(picture), "--json").stdout
    )
    assert next(row["value"] for row in told["rows"] if row["metric"] == "num_substitutions") == 4
    assert (study.runs / run_id / "journal.jsonl").read_bytes() == journal
    assert told["picture"] == str(picture) and picture.is_file()


def test_the_windows_of_a_rollout_are_encoded_as_the_cache_has_them(study: Study) -> None:
    checkpoint = open_checkpoint(study, find_runs(study, [RUN])[0])
    frames = checkpoint.frames()
    seen = open_eyes(checkpoint, frames).look(frames, np.arange(len(frames)), frames.history_action)
    np.testing.assert_allclose(seen.numpy(), frames.condition.numpy(), atol=4e-3)


def test_without_the_study_s_encoder_there_is_no_rollout(study: Study, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(study, find_runs(study, [RUN])[0])
    encoders = study.caches / "encoders"
    encoders.rename(tmp_path / "encoders")
    try:
        with pytest.raises(MissingError, match="is not in caches/encoders, and a rollout encodes"):
            open_eyes(checkpoint, checkpoint.frames())
    finally:
        (tmp_path / "encoders").rename(encoders)


def test_recordings_that_changed_are_not_rolled_out(study: Study) -> None:
    checkpoint = open_checkpoint(study, find_runs(study, [RUN])[0])
    checkpoint.record["recipe"]["drives"]["seed"] += 1
    with pytest.raises(CacheMismatchError, match="the recording of drive 'drive_03' is not the one"):
        open_eyes(checkpoint, checkpoint.frames())


def test_history_needs_the_variant_without_it(study: Study) -> None:
    with pytest.raises(MissingError, match="holds no variant 'no-history'"):
        diagnose(study, "history", "normal-only")


@pytest.mark.parametrize("name", ["fan", "field", "integrators", "horizon", "rollout"])
def test_a_regression_is_asked_what_makes_sense(study: Study, name: str) -> None:
    if name in ("fan", "field", "integrators"):
        with pytest.raises(PolicyError, match="is a regression, so each frame has one draw"):
            diagnose(study, name, "regression")
    else:
        assert diagnose(study, name, "regression").diagnosis.rows


def test_a_picture_goes_to_an_html_file_in_a_folder_that_is_there(study: Study) -> None:
    for name, words in (("x.svg", "expected the name of an HTML file"), ("none/x.html", "there is no folder none")):
        assert words in " ".join(flowlab_here(study.root, "diagnose", "fan", RUN, "--out", name, code=2).stderr.split())


def test_the_channel_is_that_of_the_selection_or_the_primary(study: Study) -> None:
    assert subject_of(study, open_checkpoint(study, find_runs(study, [RUN])[0])).channel == "steering"
    assert channel_of(study, ("x", "gripper")) == "gripper"


def test_the_rank_of_a_cache_is_that_of_its_train_windows(study: Study) -> None:
    cache = open_checkpoint(study, find_runs(study, [RUN])[0]).cache
    rank, num_windows = cache_rank(cache)
    condition = cache.split("train", variants=("normal",)).condition["normal"]
    assert num_windows == len(condition)
    assert rank == pytest.approx(effective_rank(spectra(condition, cache.spec)["overall"]), rel=1e-6)


def test_the_rank_is_told_by_cache_show_and_once_by_cache_build(study: Study) -> None:
    shown = json.loads(flowlab_here(study.root, "cache", "show", "--json").stdout)
    assert 1 < shown["effective_rank"] <= 16
    again = flowlab_here(study.root, "cache", "build", "--lever", "regression")
    assert "nothing to do" in again.stderr and "effective rank" not in again.stderr
    built = " ".join((study.root / BUILT).read_text().split())
    assert re.search(r"vary in about \d+\.\d directions \(effective rank over \d+ train windows\)", built)


def test_a_damaged_cache_has_no_rank(study: Study, tmp_path: Path) -> None:
    cache = open_checkpoint(study, find_runs(study, [RUN])[0]).cache
    path = Path(shutil.copytree(cache.path, tmp_path / cache.path.name))
    chunk = path / "train/condition/normal/c/0/0/0"
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    assert describe_rank(path) == {"effective_rank": None, "rank_windows": 0}
