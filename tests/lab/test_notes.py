"""What people say about runs and levers is found again, and part of the record."""

import shutil
from pathlib import Path

import pytest

from flowlab.core.errors import FlowlabError, StudyError, UnknownNameError
from flowlab.lab.notes import Subject, add_note, add_tag, find_subject, read_notes, read_tags
from flowlab.ledger.ingest import ingest
from flowlab.ledger.rebuild import rebuild
from flowlab.ledger.verify import verify
from flowlab.study.study import Study, load_study
from tests.cli.tiny_study import flowlab_here
from tests.lab.small_study import write_small
from tests.verdict.campaign import Campaign, panel_rule

WIDE = Subject("lever", "wide")


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Study:
    """Two controls, and a lever that experiments.toml no longer has; nobody has said anything, and here nobody does."""
    study = write_small(tmp_path_factory.mktemp("silent") / "study")
    shutil.copy(template, study.ledger)
    campaign = Campaign(study.ledger, study.runs, panel_rule())
    campaign.controls({1001: 0.4, 1002: 0.38})
    campaign.run("wide", 1001, 0.37)
    ingest(study.ledger, study.runs)
    return study


@pytest.fixture
def study(silent: Study, tmp_path: Path) -> Study:
    """The same, for one test to speak in."""
    return load_study(Path(shutil.copytree(silent.root, tmp_path / "study")))


@pytest.mark.parametrize(
    ("name", "about", "found"),
    [
        ("delta-off", "lever", "delta-off"),
        ("wide", "lever", "wide"),
        ("control", "lever", "control"),
        ("control-1001", "run", "control-1001-0-base-cache-evaluation"),
        ("control-1001-0-base-cache-evaluation", "run", "control-1001-0-base-cache-evaluation"),
    ],
)
def test_a_name_means_a_lever_or_the_one_run_that_begins_so(silent: Study, name: str, about: str, found: str) -> None:
    assert find_subject(silent, name) == Subject(about, found)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("delta-of", "unknown run or lever 'delta-of': did you mean 'delta-off'?"),
        ("wid", "did you mean 'wide'?"),  # alone it would begin a run
        ("control-", "2 runs begin with 'control-': control-1001-0-base-cache-evaluation, control-1002"),
    ],
)
def test_a_name_that_means_nothing_or_several_is_told(silent: Study, name: str, words: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        find_subject(silent, name)
    assert words in str(error.value)


def test_notes_are_kept_in_their_order_and_apart(study: Study) -> None:
    add_note(study, WIDE, "  first ")
    add_note(study, Subject("run", "wide"), "of a run")
    add_note(study, WIDE, "<b>second</b>\nline")
    add_note(study, WIDE, "<b>second</b>\nline")  # once more, as after a Ctrl-C that came too late
    assert [row["note"] for row in read_notes(study, WIDE)] == ["first", "<b>second</b>\nline"]
    assert len(read_notes(study)) == 3


@pytest.mark.parametrize("text", ["", " \n", "x" * 4001])
def test_a_note_has_words_and_is_no_report(silent: Study, text: str) -> None:
    with pytest.raises(StudyError, match="a note has from 1 to 4,000 characters"):
        add_note(silent, WIDE, text)
    assert read_notes(silent) == []


def test_the_last_tag_of_a_taxonomy_counts(study: Study) -> None:
    assert add_tag(study, WIDE, "outcome:null")
    assert add_tag(study, WIDE, "outcome: negative")
    assert not add_tag(study, WIDE, "outcome:negative")
    assert add_tag(study, WIDE, "levers:delta-off")
    assert read_tags(study, WIDE) == {"outcome": "negative", "levers": "delta-off"}


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("outcom:null", "unknown taxonomy 'outcom': did you mean 'outcome'?"),
        (
            "outcome:negativ",
            "unknown value of outcome 'negativ' in the tag 'outcome:negativ': did you mean 'negative'?",
        ),
        ("outcome", "unknown value of outcome '' in the tag 'outcome': Known: baseline, control,"),
        ("scale:pilott", "did you mean 'pilot'?"),
        ("head:flw", "did you mean 'flow'?"),
        ("levers:delta-of", "did you mean 'delta-off'?"),
    ],
)
def test_a_tag_that_nothing_knows_is_told_with_the_nearest(silent: Study, tag: str, words: str) -> None:
    with pytest.raises(FlowlabError) as error:
        add_tag(silent, WIDE, tag)
    assert words in str(error.value)
    assert read_tags(silent, WIDE) == {}


def test_what_was_said_is_proved_by_the_chain_and_comes_back(study: Study) -> None:
    add_note(study, WIDE, "remember")
    add_tag(study, WIDE, "outcome:legacy")
    verify(study.ledger, study.runs)
    study.ledger.unlink()
    rebuild(study.ledger, study.runs)
    assert [row["note"] for row in read_notes(study, WIDE)] == ["remember"]
    assert read_tags(study, WIDE) == {"outcome": "legacy"}


def test_the_commands_say_what_they_wrote_and_show_it(study: Study) -> None:
    assert "noted of lever wide" in flowlab_here(study.root, "note", "wide", "looks odd").stderr
    assert "is tagged outcome:null" in flowlab_here(study.root, "tag", "wide", "outcome:null").stderr
    assert "is already tagged outcome:null" in flowlab_here(study.root, "tag", "wide", "outcome:null").stderr
    shown = flowlab_here(study.root, "note", "wide").stdout
    assert shown.startswith("tagged outcome:null\n") and "  looks odd" in shown
    flowlab_here(study.root, "tag", "wide", "scale:pilot", "outcome:nul", code=2)
    assert read_tags(study, WIDE) == {"outcome": "null"}  # the first was not written either
