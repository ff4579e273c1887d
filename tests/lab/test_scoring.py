"""Finished policies scored again: under another evaluation as if trained so, under their own what they lack."""

import json
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from flowlab.core.errors import CacheMismatchError, EvaluationMismatchError, PolicyError, StudyError, UnknownNameError
from flowlab.core.types import MetricRow
from flowlab.journal.journal import RUN_JOURNAL, last_word, read_lines
from flowlab.lab.banks import raw_draws
from flowlab.lab.bench import open_bench
from flowlab.lab.caches import prepare_caches
from flowlab.lab.checkpoints import find_runs, open_checkpoint
from flowlab.lab.late_rows import add_rows, read_rows
from flowlab.lab.registered import read_registered
from flowlab.lab.scoring import Scored, score_ensemble, score_runs
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.ledger.verify import verify
from flowlab.study.study import Study, load_study
from tests.lab.small_study import CPU, Said, edited, train, write_small

OTHER = {"draws": 3, "solver": "euler", "solver_steps": 2}
READOUT = """
import numpy as np

class Furthest:
    name = "furthest"

    def __call__(self, draws, frames):
        return np.abs(draws).max(axis=1)
"""


def score(study: Study, *names: str, changes: dict | None = None, readouts: tuple[str, ...] = ()) -> list[Scored]:
    bench = open_bench(study, changes or {}, CPU, readouts)
    return score_runs(bench, find_runs(study, names))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with the control at both seeds of the panel, and a lever of another cache at one."""
    study = write_small(tmp_path_factory.mktemp("scoring"))
    train(study, "control", "short")
    return study.root


@pytest.fixture
def study(trained: Path, tmp_path: Path) -> Study:
    """A copy of it."""
    shutil.copytree(trained, tmp_path / "study")
    return load_study(tmp_path / "study")


def test_a_scoring_is_what_a_run_trained_and_evaluated_that_way_would_have_been(study: Study, tmp_path: Path) -> None:
    scored = score(study, "control-1001", "short", changes=OTHER)
    shutil.copytree(study.root, tmp_path / "anew", ignore=shutil.ignore_patterns("runs", "ledger*"))
    anew = load_study(tmp_path / "anew")
    evaluation = "[control.evaluation]\ndraws = 2\nsolver_steps = 2"
    anew = edited(anew, evaluation, '[control.evaluation]\ndraws = 3\nsolver_steps = 2\nsolver = "euler"')
    train(anew, "control", "short")
    for one in scored:
        told, then = read_registered(study.runs / one.run_id), read_registered(anew.runs / one.run_id)
        assert told is not None and then is not None
        same = ("run_id", "recipe", "recipe_digest", "control_digest", "evaluation_id", "evaluation", "changed_keys")
        assert {key: told[key] for key in same} == {key: then[key] for key in same}
        assert told["tags"] == [*then["tags"], f"scored-from:{one.sources[0]}"]
        ours, theirs = read_rows(study, one.run_id), read_rows(anew, one.run_id)
        assert ours == {key: value for key, value in theirs.items() if key[4] == -1}


def test_what_a_scoring_leaves_is_a_finished_run_of_the_ledger(study: Study) -> None:
    (one,) = score(study, "control-1001", changes=OTHER)
    ingest(study.ledger, study.runs)
    rows = read(study.ledger, "select run_id, source_run_id from scorings").rows
    assert rows == [(one.run_id, one.sources[0])]
    status = "select status, origin from told_runs where run_id = ?"
    assert read(study.ledger, status, [one.run_id]).rows == [("finished", None)]
    verify(study.ledger, study.runs)


def test_the_rule_of_another_evaluation_never_looks_at_it(study: Study) -> None:
    before = read(study.ledger, "select * from verdicts").rows
    (one,) = score(study, "short", changes=OTHER)
    ingest(study.ledger, study.runs)
    assert read(study.ledger, "select * from verdicts").rows == before
    why = "select why from exploratory_runs where run_id = ?"
    assert read(study.ledger, why, [one.run_id]).rows == [("evaluation",)]


def test_stored_draws_are_read_and_no_decoder_is_asked(study: Study) -> None:
    with patch("flowlab.lab.banks.draw_model", side_effect=AssertionError("drawn")):
        (one,) = score(study, "control-1001")
        assert (one.run_id, one.num_new, one.num_drawn) == (one.sources[0], 0, 0)
    (first,) = score(study, "control-1001", changes=OTHER)
    assert (first.num_drawn, first.num_new) == (1, len(first.rows))
    with patch("flowlab.lab.banks.draw_model", side_effect=AssertionError("drawn")):
        (again,) = score(study, "control-1001", changes=OTHER)
    assert (again.num_drawn, again.num_new, again.rows) == (0, 0, first.rows)


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_stored_and_fresh_draws_give_the_same_rows(study: Study, precision: str) -> None:
    changes = {"precision": precision} | OTHER
    (stored,) = score(study, "control-1001", changes=changes)
    for bank in (study.runs / stored.sources[0]).glob("draws*.zarr"):
        shutil.rmtree(bank)
    (fresh,) = score(study, "control-1001", changes=changes)
    assert fresh.num_drawn == 1
    assert fresh.rows == stored.rows


def test_stored_draws_that_were_changed_are_not_used(study: Study) -> None:
    (run_id,) = find_runs(study, ["control-1001"])
    chunk = study.runs / run_id / "draws.zarr" / "draws" / "c" / "0" / "0" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    said = Said()
    bench = open_bench(study, {}, CPU)
    (one,) = score_runs(bench, [run_id], said)
    assert one.num_drawn == 1 and one.num_new == 0
    assert any("is not what the run's journal names: its draws are made anew" in line for line in said.lines)


def test_a_readout_of_ones_own_is_named_by_its_code_too(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(study.root)
    (study.root / "scored_readout.py").write_text(READOUT)
    (one,) = score(study, "control-1001", readouts=("scored_readout:Furthest",))
    names = {row.readout for row in one.rows}
    assert len(names) == 1 and names.pop().startswith("furthest@")
    assert one.num_new == len(one.rows) > 0
    assert last_word(study.runs / one.run_id / RUN_JOURNAL) == "finished"


def test_a_readout_that_there_is_not_is_told_before_anything_is_drawn(study: Study) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'meank'"):
        score(study, "control-1001", readouts=("meanK",))


def test_settings_that_cannot_be_are_refused_in_one_sentence(study: Study) -> None:
    for changes, word in (
        ({"draws": 0}, "draws"),
        ({"solver": "rk45"}, "solver"),
        ({"noise_scale": 0.0}, "noise_scale"),
    ):
        with pytest.raises(StudyError, match=f"an evaluation cannot be so: {word}"):
            open_bench(study, changes, CPU)


def test_the_draws_of_an_ensemble_are_those_of_its_members_side_by_side(study: Study) -> None:
    runs = find_runs(study, ["control-1001", "control-1002"])
    bench = open_bench(study, {}, CPU)
    one = score_ensemble(bench, runs)
    assert one.sources == tuple(runs) and one.run_id.startswith("ensemble-")
    (mean,) = [row.value for row in one.rows if row[:4] == ("l1", "steering", "overall", "meank") and not row.drive]
    frames, clouds = bench.frames, []
    for run_id in runs:
        checkpoint = open_checkpoint(study, run_id)
        clouds.append(raw_draws(checkpoint, bench.settings, checkpoint.frames(like=frames)))
    chunk = np.concatenate(clouds, axis=1).mean(axis=1, dtype=np.float64).clip(-1, 1)
    assert mean == pytest.approx(np.abs(chunk - frames.truth)[..., 2].mean(), abs=1e-6)
    with pytest.raises(StudyError, match="two runs at least, got 1"):
        score_ensemble(bench, runs[:1])
    with pytest.raises(PolicyError, match="is an ensemble of"):
        open_checkpoint(study, one.run_id)


def test_a_policy_is_not_scored_on_drives_that_it_was_trained_on(study: Study) -> None:
    moved = edited(study, 'val = ["drive_03"]', 'val = ["drive_02"]')
    prepare_caches(moved, (), CPU)
    with pytest.raises(CacheMismatchError, match="was trained on drive drive_02, which validates in this study now"):
        score(moved, "control-1001")


def test_a_number_on_record_stays_and_one_far_from_it_is_refused(study: Study) -> None:
    (run_id,) = find_runs(study, ["control-1001"])
    key, value = next((key, value) for key, value in read_rows(study, run_id).items() if key[4] == -1 and value > 0.1)
    row = MetricRow(key[0], key[1], key[2], key[3], value, key[4], key[5])
    new = row._replace(readout="another")
    assert add_rows(study, run_id, [row._replace(value=value * (1 + 1e-6)), new]) == 1
    assert read_rows(study, run_id)[key] == value
    with pytest.raises(EvaluationMismatchError, match="on record, and it now comes out as"):
        add_rows(study, run_id, [row._replace(value=value * 1.01), new._replace(readout="third")])
    assert "third" not in {key[3] for key in read_rows(study, run_id)}


def test_a_scoring_that_was_torn_while_it_was_written_is_written_once_more(study: Study) -> None:
    (one,) = score(study, "control-1001", changes=OTHER)
    journal = study.runs / one.run_id / RUN_JOURNAL
    whole = read_rows(study, one.run_id)
    first, rest = journal.read_bytes().split(b"\n", 1)
    journal.write_bytes(first + b"\n" + rest[:100])
    score(study, "control-1001", changes=OTHER)
    assert read_rows(study, one.run_id) == whole
    assert [line.fields["kind"] for line in read_lines(journal)[0]].count("registered") == 2
    ingest(study.ledger, study.runs)
    assert read(study.ledger, "select count(*) from events where what = 'conflict'").rows == [(0,)]


def test_a_scoring_stands_for_its_source_and_draws_as_it_was_evaluated(study: Study) -> None:
    (one,) = score(study, "control-1001", changes=OTHER)
    assert find_runs(study, [one.run_id]) == find_runs(study, ["control-1001"]) == list(one.sources)
    checkpoint = open_checkpoint(study, one.run_id)
    assert (checkpoint.evaluation.draws, checkpoint.recipe.evaluation.draws) == (3, 2)
    assert checkpoint.folder.name == one.sources[0]


def test_selection_of_ones_own_makes_another_evaluation_of_the_same_draws(study: Study) -> None:
    other = edited(study, "[control.train]", "[selection]\ngap = 0.4\n\n[control.train]")
    with patch("flowlab.lab.banks.draw_model", side_effect=AssertionError("drawn")):
        (one,) = score(other, "control-1001")
    told = read_registered(study.runs / one.run_id)
    assert told is not None and told["evaluation"]["selection"]["gap"] == 0.4
    assert one.run_id == f"{one.sources[0]}-{one.evaluation_id[:8]}"
    same = edited(other, "gap = 0.4", "gap = 0.15")
    assert json.dumps(open_bench(same, {}, CPU).ground.base.evaluation) == json.dumps(
        open_bench(study, {}, CPU).ground.base.evaluation
    )


def test_a_readout_of_ones_own_that_looks_at_the_truth_has_that_in_its_name(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(study.root)
    code = READOUT.replace("np.abs(draws).max(axis=1)", "frames.truth").replace("furthest", "peek")
    (study.root / "peeking_readout.py").write_text(code.replace("Furthest", "Peek"))
    (one,) = score(study, "control-1001", readouts=("peeking_readout:Peek", "meank"))
    assert {row.readout.split("@")[-1][8:] for row in one.rows if row.readout != "meank"} == {"-bound"}
    assert one.num_new == len([row for row in one.rows if row.readout != "meank"])


def test_a_readout_of_ones_own_sees_the_conditions(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(study.root)
    seen = "draws[:, 0] + 0 * frames.condition.float().mean(dim=(1, 2)).numpy()[:, None, None]"
    code = READOUT.replace("np.abs(draws).max(axis=1)", seen).replace("Furthest", "Looks").replace("furthest", "looks")
    (study.root / "looking_readout.py").write_text(code)
    (one,) = score(study, "control-1001", readouts=("looking_readout:Looks", "single"))
    values: dict[str, dict] = {}
    for row in one.rows:
        values.setdefault(row.readout, {})[row[:3] + row[5:]] = row.value
    single = values.pop("single")
    assert list(values.values()) == [single]


def test_a_rung_of_the_ladder_above_the_draws_is_refused(study: Study) -> None:
    with pytest.raises(StudyError, match=r"is the mean of 999 draws, and there are 2\. Give --draws 999"):
        score(study, "control-1001", readouts=("meank-999",))
