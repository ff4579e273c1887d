"""A damaged line is told in the words that ledgers keep, first fault first; old lines mean what they did."""

import json
from typing import Any

import pytest

from flowlab.core.digest import digest_json
from flowlab.journal.journal import parse_lines
from flowlab.ledger.rows import RUN_KINDS, rows_of
from flowlab.ledger.study_rows import STUDY_KINDS
from tests.journal.lines_of_each_kind import RULE, RUN_LINES, STUDY_LINES, whole_line

KEY = {"metric": "l1", "channel": "steering", "slice": "overall", "readout": "meank"}
INFINITY = "Out of range float values are not JSON compliant"


def line_of(tag: str) -> dict[str, Any]:
    """The first line of that kind, as it is written."""
    texts = [text for _, text in (*RUN_LINES, *STUDY_LINES) if text.startswith(f'"{tag}"')]
    return json.loads(whole_line(texts[0]))


def rows(fields: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What a line of the run r1, or of the study, says. 1e999 is what JSON reads as infinity."""
    text = json.dumps(fields).replace("Infinity", "1e999")
    (line,) = parse_lines(text.encode() + b"\n", 0)
    if fields["kind"] in STUDY_KINDS:
        return rows_of(line, {"journal": "study.jsonl"}, STUDY_KINDS)
    return rows_of(line, {"journal": "r1/journal.jsonl", "run_id": "r1"}, RUN_KINDS)


def told(fields: dict[str, Any]) -> str:
    with pytest.raises(ValueError) as caught:
        rows(fields)
    return str(caught.value)


def sealed(**changes: Any) -> dict[str, Any]:
    """Fields of a seal whose rule has `changes`; one that is None is taken out."""
    rule = {name: value for name, value in (RULE | changes).items() if value is not None}
    return {"rule": rule, "digest": digest_json(rule)}


STAGE, GUARD, DECIDED = RULE["stages"][0], RULE["guardrails"][0], line_of("verdicts")["rows"][0]

DAMAGED: list[tuple[str, dict[str, Any], str]] = [
    ("registered", {"run_id": None}, "run_id is None, expected a text"),
    ("registered", {"run_id": "a", "study": 1}, "run_id is 'a', expected the folder's name 'r1'"),
    ("registered", {"lever": None}, "lever is None, expected a text"),
    ("registered", {"seed": True, "hypothesis": 1}, "hypothesis is 1, expected a text"),
    ("registered", {"seed": True, "evaluation": 1}, "seed is True, expected a whole number"),
    ("registered", {"replicate": 2**63}, "replicate is 9223372036854775808, expected a whole number"),
    ("registered", {"evaluation": [1]}, "evaluation is [1], expected an object"),
    ("registered", {"evaluation": {"a": float("inf")}, "changed_keys": 1}, INFINITY),
    ("registered", {"changed_keys": "ab", "recipe": 1}, "changed_keys is 'ab', expected a list"),
    ("registered", {"changed_keys": ["a", 1]}, "changed_keys is 1, expected a text"),
    ("registered", {"origin": 3, "recipe": 3}, "origin is 3, expected a text"),
    ("registered", {"recipe": {"a": {"b": float("inf")}}, "tags": 1}, INFINITY),
    ("registered", {"tags": ["a:b", "x"]}, "tag 'x' is not of the form taxonomy:value"),
    ("registered", {"time_us": 2**63, "run_id": 1}, "time_us is 9223372036854775808, expected a whole number"),
    ("started", {"attempt": 1.0, "git_revision": 1}, "attempt is 1.0, expected a whole number"),
    ("started", {"cohort_size": "1", "git_revision": 1}, "git_revision is 1, expected a text"),
    ("started", {"environment": {"a": {"b": float("inf")}}}, INFINITY),
    ("metrics", {"rows": {}}, "rows is {}, expected a list"),
    ("metrics", {"rows": [["l1"]]}, "metric row ['l1'] is not [metric, channel, slice, readout, value, step]"),
    ("metrics", {"rows": ["abcdef"]}, "metric row 'abcdef' is not [metric, channel, slice, readout, value, step]"),
    ("metrics", {"rows": [[1, "", "s", "", "x", -1]]}, "metric is 1, expected a text"),
    ("metrics", {"rows": [["m", "", None, 1, 0.5, -1]]}, "slice is None, expected a text"),
    ("metrics", {"rows": [["m", "", "s", 1, 0.5, -1, 7]]}, "drive is 7, expected a text"),
    ("metrics", {"rows": [["m", "", "s", "", "x", 1.0]]}, "step is 1.0, expected a whole number"),
    ("metrics", {"rows": [["m", "", "s", "", 0.5, 2**63]]}, f"step is {2**63}, expected a whole number"),
    ("metrics", {"rows": [["m", "", "s", "", True, -1]]}, "value is True, expected a finite number"),
    ("metrics", {"rows": [["m", "", "s", "", float("inf"), -1]]}, "value is inf, expected a finite number"),
    ("metrics", {"rows": [["m", "", "s", "", 10**309, -1]]}, f"value is {10**309}, expected a finite number"),
    ("wall_time", {"phases": {"load": 1, "train": "2"}}, "train is '2', expected a finite number"),
    ("wall_time", {"phases": {"\ud800": "2"}}, "\ud800 is '2', expected a finite number"),
    ("artifact", {"bytes": 5.0}, "bytes is 5.0, expected a whole number"),
    ("event", {"what": "conflict", "detail": 1}, "what is 'conflict', which is for the reader of a journal to say"),
    ("event", {"detail": None}, "detail is None, expected a text"),
    ("crashed", {"step": None}, "step is None, expected a whole number"),
    ("cache", {"num_val": None, "identity": 1}, "num_val is None, expected a whole number"),
    ("cache", {"val_drives_digest": 1, "num_val": None}, "val_drives_digest is 1, expected a text"),
    ("seal", {"rule": [], "digest": 1}, "rule is [], expected an object"),
    ("seal", {"rule": {}, "digest": None}, "digest is None, expected a text"),
    ("seal", {"digest": "x", "simulated": 1}, "the rule's digest is d787d537ffa0240d, the seal says x"),
    ("seal", {"digest": "\ud800"}, "the rule's digest is d787d537ffa0240d, the seal says \ud800"),
    ("seal", {"rule": {"a": float("inf")}}, INFINITY),
    ("seal", sealed(name=None), "this is no rule: the table [name] is missing."),
    ("seal", sealed(stages=[STAGE | {"bar": "x"}]),
     "this is no rule: stages[0].bar: got the text 'x', expected a number."),
    ("seal", sealed(primary={"slice": "s"}) | {"simulated": 1}, "metric is None, expected a text"),
    ("seal", sealed(guardrails=[{"slice": "s", "margin": 0.1}]) | {"simulated": 1},
     "simulated is 1, expected an object"),
    ("seal", sealed(guardrails=[GUARD, {"slice": "s", "margin": 0.1}]), "metric is None, expected a text"),
    ("amend", {"amended_digest": 1, "simulated": 1}, "simulated is 1, expected an object"),
    ("amend", sealed(guardrails=[{"slice": "s", "margin": 0.1}]) | {"reason": 1}, "metric is None, expected a text"),
    ("amend", {"amended_digest": None, "reason": None}, "amended_digest is None, expected a text"),
    ("base", {"stacked": [1], "recipe": 1}, "stacked is 1, expected a text"),
    ("base", {"thresholds": 1}, "thresholds is 1, expected an object"),
    ("encoder", {"train_drives": None}, "train_drives is None, expected a list"),
    ("calibrate", {"digest": "x"}, "the design's digest is 3542036d5ea484cc, the line says x"),
    ("screen", {"sigma": None, "weights": []}, "sigma is None, expected a finite number"),
    ("screen", {"weights": [[1.0, 2.0]]}, "weights are not 1 lists of 1 numbers"),
    ("screen", {"rows": [{"name": "a"}]}, "seed is None, expected a whole number"),
    ("weights", {"weights": [["x", 1.0]]}, "weights is 'x', expected a finite number"),
    ("stack", {"changes": 1, "new_control_digest": 1}, "new_control_digest is 1, expected a text"),
    ("stack", {"effect": None, "replicate_seed": None}, "effect is None, expected a finite number"),
    ("verdicts", {"rows": ["x"]}, "got 'x', expected an object"),
    ("verdicts", {"rows": [DECIDED | {"effect": "x", "reason": 1}, "x"]}, "reason is 1, expected a text"),
    ("verdicts", {"rows": [DECIDED | {"effect": "x"}, "x"]}, "effect is 'x', expected a finite number"),
    ("planned", {"run_ids": "r1"}, "run_ids is 'r1', expected a list"),
]  # fmt: skip


@pytest.mark.parametrize(("tag", "changes", "sentence"), DAMAGED)
def test_the_first_fault_of_a_damaged_line_is_told(tag: str, changes: dict[str, Any], sentence: str) -> None:
    assert told(line_of(tag) | changes).removesuffix(": inf") == sentence


@pytest.mark.parametrize("tag", sorted(RUN_KINDS.keys() | STUDY_KINDS.keys()))
def test_every_field_of_a_line_that_was_always_there_is_missed(tag: str) -> None:
    newer = {"kind", "time_us", "origin", "simulated", "thresholds"}
    fields = line_of(tag)
    for name in fields.keys() - newer:
        assert f"{name} is None, expected " in told({key: fields[key] for key in fields if key != name})


def test_an_unknown_kind_is_told_with_the_kinds_of_the_first_ledgers() -> None:
    (line,) = parse_lines(b'{"kind":"x","time_us":1}\n', 0)
    for makers, names in (
        (RUN_KINDS, "artifact, crashed, event, finished, metrics, registered, started, wall_time"),
        (STUDY_KINDS, "amend, base, cache, planned, seal, stack, verdicts"),
    ):
        with pytest.raises(ValueError, match=f"^unknown kind 'x', expected one of {names}$"):
            rows_of(line, {}, makers)


def test_a_run_of_before_there_were_origins_is_our_own() -> None:
    assert rows(line_of("registered"))[0] == (
        "runs",
        {
            "run_id": "r1", "time_us": 1_700_000_000_123_456, "study": "s", "lever": "wide", "recipe_digest": "r",
            "control_digest": "c", "cache_id": "k", "evaluation_id": "e", "hypothesis": "", "seed": 7, "replicate": 0,
            "evaluation_json": '{"draws":4}', "changed_keys": [], "origin": None,
        },
    )  # fmt: skip


def test_the_columns_of_a_run_stay_in_their_order_which_decides_what_a_conflict_names_first() -> None:
    first, *_ = list(rows(line_of("registered"))[0][1].items())
    columns = list(rows(line_of("registered"))[0][1])
    assert first == ("run_id", "r1")
    assert columns[2:] == [
        "study", "lever", "recipe_digest", "control_digest", "cache_id", "evaluation_id", "hypothesis", "seed",
        "replicate", "evaluation_json", "changed_keys", "origin",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("item", "where", "drive"),
    [
        (["l1", "", "drive:d", "", 1, -1], "overall", "d"),
        (["l1", "", "flat_frame:drive:d", "", 1, -1], "flat_frame", "d"),
        (["l1", "", "flat_frame", "", 1, -1], "flat_frame", ""),
        (["l1", "", "flat_frame", "", 1, -1, "d"], "flat_frame", "d"),
        (["l1", "", "drive:d", "", 1, -1, ""], "drive:d", ""),
    ],
)
def test_the_drive_of_a_metric_row_was_part_of_its_slice(item: list, where: str, drive: str) -> None:
    ((_, row),) = rows(line_of("metrics") | {"rows": [item]})
    assert (row["slice"], row["drive"], repr(row["value"])) == (where, drive, "1.0")


def test_a_rule_of_before_first_seeds_bar_units_directions_and_evaluations() -> None:
    stage = {name: STAGE[name] for name in ("name", "statistic", "num_seeds", "bar")}
    old = sealed(
        primary=KEY | {"slice": "drive:d"}, stages=[stage], guardrails=[KEY | {"margin": 1.0}], evaluation=None
    )
    fields = {name: value for name, value in line_of("seal").items() if name != "simulated"} | old
    by_table = dict(rows(fields))
    rule = by_table["rules"]
    assert (rule["slice"], rule["drive"], rule["direction"]) == ("overall", "d", "lower")
    assert (rule["evaluation_id"], rule["evaluation_json"], rule["simulated_json"]) == (None, None, None)
    assert (by_table["rule_stages"]["first_seed"], by_table["rule_stages"]["bar_unit"]) == (1, "metric")
    assert by_table["rule_guardrails"]["direction"] == "lower"


def test_a_base_of_before_there_were_thresholds() -> None:
    ((_, row),) = rows(line_of("base"))
    assert (row["stacked"], row["recipe_json"], row["thresholds_json"]) == (["wide"], '{"a":1}', None)
