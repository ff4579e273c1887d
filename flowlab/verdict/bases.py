"""The bases that a study has had, and which of them experiments.toml describes now."""

import json
from dataclasses import dataclass
from typing import Any

from flowlab.ledger.connection import read
from flowlab.study.lever import flat_keys
from flowlab.study.study import CONTROL, Study


@dataclass(frozen=True)
class KnownBase:
    """One base: what was stacked on the control, in order, and whether it is the present one."""

    base_id: str
    stacked: tuple[str, ...]
    is_present: bool

    @property
    def path(self) -> str:
        """ "control -> wide"."""
        return " -> ".join([CONTROL, *self.stacked])

    @property
    def name(self) -> str:
        """The same with the first digits of its id: two bases may have one path."""
        return f"{self.path} {self.base_id[:6]}"


def read_bases(study: Study) -> dict[str, KnownBase]:
    """Each base that runs have, or that is on record, by its id, oldest first; at most one is the present one.

    That is the newest whose control has the recipe and the slices of experiments.toml. A base of which there are only
    scorings was never put on record: its control's settings tell.
    """
    question = """
        select
            base_id,
            coalesce(arg_max(bases.stacked, bases.entry), []) as stacked,
            arg_max(bases.recipe_json, bases.entry) as recipe_json,
            any_value(ran.evaluation_json) as evaluation_json,
            any_value(ran.control) as control
        from (
            select
                base_id, min(entry) as first, any_value(evaluation_json) as evaluation_json,
                min(run_id) filter (lever = 'control' and recipe_digest = control_digest) as control
            from runs
            group by base_id
        ) as ran
        full join bases using (base_id)
        group by base_id
        order by coalesce(max(bases.entry), min(ran.first)), base_id"""
    rows = read(study.ledger, question).records()
    fitting = [row["base_id"] for row in rows if _is_described(study, row)]
    present = fitting[-1] if fitting else None
    return {row["base_id"]: KnownBase(row["base_id"], tuple(row["stacked"]), row["base_id"] == present) for row in rows}


def _is_described(study: Study, row: dict[str, Any]) -> bool:
    """Whether experiments.toml says of control and slices what this base has; keys that came later are left aside."""
    evaluation = json.loads(row["evaluation_json"]) if row["evaluation_json"] else {}
    slices = evaluation.get("metrics", {}).get("slices")
    are_known = study.file.slices is not None or study.channels is not None
    if slices is not None and are_known and slices != {name: one.to_json() for name, one in study.slices.items()}:
        return False
    now = dict(flat_keys(study.base.to_json()))
    then = _recorded(study, row)
    return bool(then) and all(now[key] == value for key, value in then.items() if key in now)


def _recorded(study: Study, row: dict[str, Any]) -> dict[str, Any]:
    """The keys of a base's recipe, as they were put on record or as its control has them; none where nothing tells."""
    if row["recipe_json"]:
        return dict(flat_keys(json.loads(row["recipe_json"])))
    settings = read(study.ledger, "select key, value_json from run_settings where run_id = ?", [row["control"]]).rows
    return {key: json.loads(value) for key, value in settings}
