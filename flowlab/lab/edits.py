"""Which keys of experiments.toml were edited since a lever's finished runs, so that all of it would be trained anew."""

import json
from collections.abc import Sequence
from typing import Any

from flowlab.lab.ground import Ground
from flowlab.lab.plan import PlannedRun
from flowlab.ledger.connection import read
from flowlab.study.lever import flat_keys
from flowlab.study.study import Study
from flowlab.verdict.seal import first_difference

MOST_KEYS = 6
"""Named in one line."""


def edited_recipes(study: Study, ground: Ground, waiting: Sequence[PlannedRun]) -> list[str]:
    """A sentence for each lever (or the control) of these runs that has finished runs, none as it is now.

    It compares with the newest of them. A control that has moved by a stack was edited by nobody.
    """
    levers = dict.fromkeys(item.run.lever for item in waiting if item.purpose is None)
    told = [_told(study, ground, lever) for lever in levers if lever in ground.supplies]
    return [sentence for sentence in told if sentence]


def _told(study: Study, ground: Ground, lever: str) -> str:
    question = """
        select
            evidence.recipe_digest, evidence.base_id, count(*) as num_runs, max(runs.entry) as entry,
            arg_max(runs.run_id, runs.entry) as run_id, any_value(runs.evaluation_json) as evaluation_json,
            any_value(runs.cache_id) as cache_id, any_value(bases.stacked) as stacked
        from evidence
        join runs using (run_id)
        left join (select base_id, any_value(stacked) as stacked from bases group by base_id) as bases
            on bases.base_id = evidence.base_id
        where evidence.lever = ? and runs.origin is null
        group by all
        order by entry desc"""
    groups = read(study.ledger, question, [lever]).records()
    digest = ground.recipe_digest(lever, study.recipe(lever))
    if not groups or (digest, ground.base.base_id) in [(row["recipe_digest"], row["base_id"]) for row in groups]:
        return ""
    newest = groups[0]
    if newest["stacked"] is not None and tuple(newest["stacked"]) != study.stacked:
        return ""
    changes = _changes(study, ground, lever, newest)
    if not changes:
        return ""
    num, more = newest["num_runs"], f" and {len(changes) - MOST_KEYS} keys more" if len(changes) > MOST_KEYS else ""
    runs = "its finished run" if num == 1 else f"{num} finished runs"
    listed = [f"{key} was {_value(was)} in {runs}, is {_value(now)} now" for key, was, now in changes[:MOST_KEYS]]
    return f"{lever}: {'; '.join(listed)}{more}"


def _changes(study: Study, ground: Ground, lever: str, newest: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, was, is) for what differs between a finished run and the lever as it is: the recipe, else what is left."""
    settings = read(study.ledger, "select key, value_json from run_settings where run_id = ?", [newest["run_id"]]).rows
    was, now = ({key: json.loads(value) for key, value in settings}, dict(flat_keys(study.setup(lever).to_json())))
    changes = [(key, was[key], now[key]) for key in was if key in now and was[key] != now[key]]
    if changes:
        return changes
    evaluated = first_difference(json.loads(newest["evaluation_json"]), ground.base.evaluation)
    if evaluated is not None:
        return [(f"evaluation {evaluated[0]}", *evaluated[1:])]
    cache_id = ground.supplies[lever].cache.cache_id
    return [("cache", newest["cache_id"], cache_id)] if newest["cache_id"] != cache_id else []


def _value(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)
