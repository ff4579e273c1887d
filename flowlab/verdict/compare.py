"""Two runs side by side, if their numbers may be compared at all."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowlab.core.errors import EvaluationMismatchError, unknown_name
from flowlab.ledger.connection import read
from flowlab.study.settings import MetricKey
from flowlab.verdict.seal import first_difference

FACTS = ("study", "lever", "seed", "replicate", "origin", "base_id", "cache_id")
"""Columns of `runs` that make two runs differ beside the keys of their recipes."""


@dataclass(frozen=True)
class Difference:
    """One thing in which two runs are not alike, such as a key of the recipe; None where a run does not have it."""

    key: str
    value: Any
    other_value: Any


@dataclass(frozen=True)
class Compared:
    """One final number that both runs have; `difference` is other - run.

    `control_sd` is how far the control's seeds lie apart in it, None where fewer than two tell.
    """

    metric: str
    channel: str
    slice: str
    drive: str
    readout: str
    value: float
    other_value: float
    control_sd: float | None = None

    @property
    def difference(self) -> float:
        return self.other_value - self.value


def find_run_id(ledger_path: Path, name: str) -> str:
    """The run of the ledger whose id is `name`, else the only one whose id begins so. Raises UnknownNameError."""
    known = [row[0] for row in read(ledger_path, "select run_id from runs").rows]
    found = [name] if name in known else [run_id for run_id in known if run_id.startswith(name)]
    if len(found) > 1:
        raise unknown_name("run", name, found, "the ledger, where several begin so")
    if not found:
        raise unknown_name("run", name, known)
    return found[0]


def differences(ledger_path: Path, run_id: str, other_id: str) -> list[Difference]:
    """In what two runs differ before they have any number: keys of the recipe, then what they are, then where they ran.

    Where all of that is alike and the recipes have other names all the same, stats or the code of a plug-in differ.
    """
    settings, facts, places = ([read_of(ledger_path, one) for one in (run_id, other_id)] for read_of in _TOLD)
    found = _unlike(settings) + _unlike(facts)
    if any(one.key in settings[0] | settings[1] | {"cache_id": None} for one in found):
        found = [one for one in found if one.key != RECIPE]
    return found + _unlike(places)


RECIPE = "recipe_digest"


def _unlike(pair: list[dict[str, Any]]) -> list[Difference]:
    mine, theirs = pair
    return [
        Difference(key, mine.get(key), theirs.get(key)) for key in mine | theirs if mine.get(key) != theirs.get(key)
    ]


def _settings(ledger_path: Path, run_id: str) -> dict[str, Any]:
    """The keys of a run's recipe."""
    question = "select key, value_json from run_settings where run_id = ? order by all"
    return {key: json.loads(value) for key, value in read(ledger_path, question, [run_id]).rows}


def _facts(ledger_path: Path, run_id: str) -> dict[str, Any]:
    (row,) = read(ledger_path, "select * from runs where run_id = ?", [run_id]).records()
    return {key: row[key] for key in (*FACTS, RECIPE)}


def _places(ledger_path: Path, run_id: str) -> dict[str, Any]:
    """Where a run was trained. One that was continued elsewhere has both values, as in the view unlike_runs."""
    question = """
        select key, string_agg(distinct value, ' then ' order by value)
        from (
            select 'device' as key, device as value from attempts where run_id = ?
            union all select key, value from environments where run_id = ?
        )
        group by key order by key"""
    return dict(read(ledger_path, question, [run_id, run_id]).rows)


_TOLD = (_settings, _facts, _places)


def compare_runs(ledger_path: Path, run_id: str, other_id: str) -> list[Compared]:
    """Every final number that two finished runs share.

    Raises UnknownNameError for a run that the ledger does not have, EvaluationMismatchError, with the first difference,
    for runs that were evaluated in two ways: other frames, draws, noise or solver make other numbers.
    """
    require_one_evaluation(ledger_path, [run_id, other_id])
    question = """
        select metric, channel, slice, drive, readout, mine.value, theirs.value, control_spread.sd
        from (select * from final_metrics where run_id = ?) as mine
        join (select * from final_metrics where run_id = ?) as theirs using (metric, channel, slice, drive, readout)
        left join control_spread on control_spread.base_id = mine.base_id
            and control_spread.metric = mine.metric and control_spread.channel = mine.channel
            and control_spread.slice = mine.slice and control_spread.drive = mine.drive
            and control_spread.readout = mine.readout
        order by all"""
    return [Compared(*row) for row in read(ledger_path, question, [run_id, other_id]).rows]


def final_numbers(ledger_path: Path, key: MetricKey, run_ids: list[str]) -> dict[str, float]:
    """The number of that key that each of these runs ended with, by run id; runs without it are left out."""
    question = """
        select run_id, value
        from final_metrics
        where metric = ? and channel = ? and slice = ? and readout = ? and drive = ? and list_contains(?, run_id)"""
    given = [key.metric, key.channel, key.slice, key.readout, key.drive or "", run_ids]
    return dict(read(ledger_path, question, given).rows)


def require_one_evaluation(ledger_path: Path, run_ids: list[str]) -> None:
    """Raises EvaluationMismatchError unless all these runs were evaluated in one way, UnknownNameError for no run."""
    rows = read(ledger_path, "select run_id, evaluation_id, evaluation_json from runs").rows
    known = {run_id: (evaluation_id, evaluation_json) for run_id, evaluation_id, evaluation_json in rows}
    for run_id in run_ids:
        if run_id not in known:
            raise unknown_name("run", run_id, known)
    first, *others = run_ids
    for other in others:
        if known[other][0] != known[first][0]:
            told = (json.loads(known[run_id][1]) for run_id in (first, other))
            where, ours, theirs = first_difference(*told) or ("evaluation_id", known[first][0], known[other][0])
            raise EvaluationMismatchError(
                f"{first} and {other} may not be compared: they were evaluated with {where} = {json.dumps(ours)} and "
                f"{json.dumps(theirs)}. Evaluate them in one way: same cache, validation drives, draws and solver."
            )
