"""Which base is the present one: the newest whose control is what experiments.toml says now."""

from pathlib import Path

import pytest

from flowlab.journal.lines import RunJournal, StudyJournal
from flowlab.ledger.ingest import ingest
from flowlab.study.study import Study, load_study
from flowlab.verdict.bases import read_bases
from tests.cli.tiny_study import write_tiny


@pytest.fixture
def study(tmp_path: Path, ledger: Path) -> Study:
    """A study whose base is on record, with one control that draws 4 times."""
    study = load_study(write_tiny(tmp_path))
    with StudyJournal.of(study.runs) as journal:
        journal.base(
            control_digest="four",
            cache_id="cache",
            evaluation_id="e4",
            stacked=[],
            recipe=study.base.to_json(),
            thresholds={},
        )
    control(study, "four", "e4")
    return study


def control(study: Study, digest: str, evaluation_id: str) -> None:
    """A control whose recipe is that of the study."""
    with RunJournal.of(study.runs, f"control-{digest}") as journal:
        journal.registered(
            run_id=f"control-{digest}",
            study="tiny",
            lever="control",
            seed=1001,
            replicate=0,
            recipe=study.base.to_json(),
            recipe_digest=digest,
            control_digest=digest,
            cache_id="cache",
            evaluation_id=evaluation_id,
            evaluation={"metrics": {"slices": {name: one.to_json() for name, one in study.slices.items()}}},
        )
    ingest(study.ledger, study.runs)


def edited(study: Study, old: str, new: str) -> Study:
    path = study.root / "experiments.toml"
    path.write_text(path.read_text().replace(old, new))
    return load_study(study.root)


def present(study: Study) -> list[bool]:
    return [base.is_present for base in read_bases(study).values()]


def test_the_base_on_record_is_the_present_one(study: Study) -> None:
    assert present(study) == [True]


def test_an_edited_control_has_left_it(study: Study) -> None:
    assert present(edited(study, "draws = 4", "draws = 8")) == [False]


def test_what_the_edited_file_was_only_scored_by_is_the_present_one(study: Study) -> None:
    now = edited(study, "draws = 4", "draws = 8")
    control(now, "eight", "e8")
    assert present(now) == [False, True]


def test_a_scoring_in_another_way_than_the_file_has_is_not(study: Study) -> None:
    control(study.evaluated({"draws": 8}), "eight", "e8")
    assert present(study) == [True, False]


SLICES = """
[slices]
spike_frame = { channel = "steering", size_above = 0.4, slots = "any" }
flat_frame = { channel = "steering", size_below = 0.05, slots = "all" }

[split]
"""


def test_other_slices_are_another_base(study: Study) -> None:
    assert present(edited(study, "[split]\n", SLICES)) == [False]
