"""Keeps a study from changing its meaning unasked: keys that its file leaves out have meant other values before."""

import json
from typing import Any

from flowlab.core.errors import StudyError
from flowlab.ledger.connection import read
from flowlab.study.document import FILE_NAME
from flowlab.study.lever import flat_keys
from flowlab.study.study import Study
from flowlab.study.versions import BEFORE, NEWEST, is_before, pilot_of_before, read_recorded

LAST_BASE = """
    select recipe_json, identity_json
    from bases left join caches using (cache_id)
    order by bases.entry desc limit 1"""


def require_same_meaning(study: Study) -> None:
    """Raises StudyError if the control is another one than that of the ledger's last base because of keys left out.

    A file that says control.version has decided, and so has a base that this version of the recipe has begun.
    """
    if study.version is not None or not study.ledger.exists():
        return
    for recipe_json, identity_json in read(study.ledger, LAST_BASE).rows:
        recorded = json.loads(recipe_json)
        other = _other_keys(study, recorded, json.loads(identity_json or "{}")) if is_before(recorded) else {}
        if other:
            keys = ", ".join(f"{key} = {json.dumps(value)}" for key, value in other.items())
            raise StudyError(
                f"{FILE_NAME}: the study's runs were made when keys that the file leaves out meant other values "
                f"({keys}), so the control would not be theirs: write version = 1 below [control] to keep what they "
                f"meant, or version = {NEWEST} for the published control, which begins a new base."
            )


def _other_keys(study: Study, recorded: dict[str, Any], identity: dict[str, Any]) -> dict[str, Any]:
    """By dotted key, what the file leaves out and the recorded control did otherwise than the present one."""
    before, now = (dict(flat_keys(tables)) for tables in (read_recorded(recorded), study.base.to_json()))
    other = {key: before[key] for key in BEFORE if before[key] != now[key] and key not in study.given}
    split = study.base.inputs.split.model_dump(mode="json")
    pilot = pilot_of_before(split)
    is_counted = split["scale"] == recorded.get("split", split)["scale"] == "pilot" and split["num_train"] is None
    if is_counted and pilot == len(identity.get("split", {}).get("train", ())):  # with fewer drives it took them all
        other["split.num_train"] = pilot
    return other
