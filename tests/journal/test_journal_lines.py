"""What is written stays as it was to the byte, and what was read once is read the same again."""

import json
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from flowlab.core.errors import LedgerError
from flowlab.core.types import MetricRow
from flowlab.journal import run_lines, study_lines, values
from flowlab.journal.journal import Journal, parse_lines
from flowlab.journal.lines import KINDS, RunJournal, StudyJournal
from flowlab.journal.said import JournalLine
from tests.journal.lines_of_each_kind import RUN, RUN_LINES, STUDY_LINES, TIME_US, whole_line

DOCUMENT = Path(__file__).parents[2] / "docs" / "journal.md"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: TIME_US * 1000 + 789)


@pytest.mark.parametrize(("write", "text"), RUN_LINES)
def test_a_line_of_a_run_is_written_as_ever(tmp_path: Path, clock: None, write: Any, text: str) -> None:
    with RunJournal.of(tmp_path, "r1") as journal:
        write(journal)
    assert journal.path.read_text() == whole_line(text)


@pytest.mark.parametrize(("write", "text"), STUDY_LINES)
def test_a_line_of_the_study_is_written_as_ever(tmp_path: Path, clock: None, write: Any, text: str) -> None:
    with StudyJournal.of(tmp_path) as journal:
        write(journal)
    assert journal.path.read_text() == whole_line(text)


def test_there_is_a_line_of_every_kind() -> None:
    assert {json.loads(whole_line(text))["kind"] for _, text in (*RUN_LINES, *STUDY_LINES)} == KINDS.keys()


@pytest.mark.parametrize("text", [text for _, text in (*RUN_LINES, *STUDY_LINES)])
def test_the_unions_tag_finds_the_model_of_a_line(text: str) -> None:
    fields = json.loads(whole_line(text))
    kind = KINDS[fields["kind"]]
    union: Any = TypeAdapter(run_lines.RunLine | study_lines.StudyLine)
    assert type(union.validate_python(fields)) is kind


def again(line: JournalLine) -> JournalLine:
    """The line, written and read."""
    ((_, fields, problem, _),) = parse_lines(json.dumps(line.told()).encode() + b"\n", 0)
    assert problem == ""
    return type(line).read(fields)


TEXTS = st.text(st.characters(exclude_categories=()), max_size=5)  # halves of surrogate pairs too
WHOLES = st.integers(-values.MAX_WHOLE, values.MAX_WHOLE)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | TEXTS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXTS, inside, max_size=3),
    max_leaves=5,
)
TABLES = st.dictionaries(TEXTS, JSON, max_size=3)
EVENTS = TEXTS.filter(lambda what: what not in run_lines.SAID_BY_READERS)
FACTS: dict[Any, st.SearchStrategy] = {
    values.Text: TEXTS,
    values.TextOrNone: st.none() | TEXTS,
    values.Texts: st.lists(TEXTS, max_size=3),
    values.Whole: WHOLES,
    values.WholeOrNone: st.none() | WHOLES,
    values.Number: NUMBERS,
    values.NumberOrNone: st.none() | NUMBERS,
    values.Table: TABLES,
    values.TableOrNone: st.none() | TABLES,
    values.Settings: TABLES,
    values.Facts: TABLES,
    values.Seconds: st.dictionaries(TEXTS, NUMBERS, max_size=3),
}
SPECIAL = {
    ("registered", "tags"): st.lists(st.builds("{}:{}".format, TEXTS, TEXTS), max_size=3),
    ("metrics", "rows"): st.lists(
        st.builds(MetricRow, TEXTS, TEXTS, TEXTS.filter(lambda t: "drive:" not in t), TEXTS, NUMBERS, WHOLES, TEXTS)
    ),
    ("event", "what"): EVENTS,
    ("verdicts", "rows"): st.lists(
        st.fixed_dictionaries(
            {
                name: FACTS[kind]
                for name, kind in get_type_hints(study_lines.Decided, include_extras=True).items()
                if name in study_lines.Decided.model_fields
            }
        ),
        max_size=2,
    ),
}


WHOLE = {"calibrate", "seal", "amend", "screen", "weights", "tree"}
"""Kinds whose fields have to fit each other: digests, and a weight for each lever and row."""


def fields_of(kind: type[JournalLine]) -> dict[str, Any]:
    """The fields of a kind of line but its tag, with their types."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: hints[name] for name in kind.model_fields if name != "kind"}


@settings(max_examples=10, deadline=None)
@given(st.data())
@pytest.mark.parametrize("tag", sorted(KINDS.keys() - WHOLE))
def test_what_is_written_is_what_is_read(tag: str, data: st.DataObject) -> None:
    kind = KINDS[tag]
    special = {name: strategy for (of, name), strategy in SPECIAL.items() if of == tag}
    fields = {
        name: data.draw(special[name] if name in special else FACTS[annotated])
        for name, annotated in fields_of(kind).items()
    }
    line = kind(**fields)
    assert again(line) == line


@pytest.mark.parametrize("text", [text for _, text in STUDY_LINES if json.loads(whole_line(text))["kind"] in WHOLE])
def test_a_line_whose_fields_hang_together_is_read_as_it_is_written(text: str) -> None:
    fields = json.loads(whole_line(text))
    line = KINDS[fields["kind"]].read(fields)
    assert again(line) == line


def test_a_line_does_not_change() -> None:
    line = run_lines.Crashed(reason="not finite", step=9)
    with pytest.raises(ValueError, match="frozen"):
        line.step = 10  # type: ignore[misc]


def test_a_line_that_no_reader_would_take_is_not_written(tmp_path: Path) -> None:
    with RunJournal.of(tmp_path, "r1") as journal:
        with pytest.raises(LedgerError, match="cannot be written: seed is '7', expected a whole number"):
            journal.registered(**RUN | {"seed": "7"})
        with pytest.raises(LedgerError, match="cannot be written: what is 'conflict', which is for the reader"):
            journal.event("conflict")
        with pytest.raises(LedgerError, match="cannot be written: study is missing"):
            journal.registered(**{name: value for name, value in RUN.items() if name != "study"})
        with pytest.raises(TypeError, match="Registered has no field 'orgin'"):
            journal.registered(**RUN, orgin="mlflow")
        assert journal.path.read_bytes() == b""


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_seconds_that_are_not_finite_are_told_as_for_any_line(tmp_path: Path, value: float) -> None:
    with (
        RunJournal.of(tmp_path, "r1") as journal,
        pytest.raises(LedgerError, match=r"a 'wall_time' line for .* holds NaN or infinity"),
    ):
        journal.wall_time({"train": value})


def test_fields_that_nobody_knows_are_passed_over() -> None:
    assert run_lines.Finished.read({"kind": "finished", "time_us": 1, "mood": "good"}).time_us == 1


def test_a_line_may_be_written_by_hand(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append(**run_lines.Finished(time_us=5).told())
    assert journal.path.read_text() == '{"kind":"finished","time_us":5}\n'


SPELLED = {
    values.Text: "text",
    values.TextOrNone: "text or none",
    values.Texts: "texts",
    values.Whole: "whole",
    values.WholeOrNone: "whole or none",
    values.Number: "number",
    values.NumberOrNone: "number or none",
    values.Object: "table",
    values.Table: "table",
    values.TableOrNone: "table or none",
    values.Settings: "table",
    values.Facts: "table",
    values.Seconds: "numbers by name",
}


def test_the_document_has_each_kind_once_with_its_fields_and_their_types() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| [^|]+ \|$", DOCUMENT.read_text(), re.M)
    told = {kind: re.findall(r"`(\w+)` ([a-z ]+)", fields) for kind, fields in rows}
    assert len(rows) == len(told) == len(KINDS)
    assert told == {
        tag: [(name, SPELLED.get(kind, "rows").strip()) for name, kind in fields_of(model).items() if name != "time_us"]
        for tag, model in KINDS.items()
    }
