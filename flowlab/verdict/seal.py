"""Seals a rule before the runs that it judges: from then on the name stands for these numbers and no others."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowlab.core.errors import RuleChangedError
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.ledger.lines import StudyJournal
from flowlab.study.rule import Rule

LOCK_FILE = "study.lock"


def seal_rule(rule: Rule, runs_dir: Path, ledger_path: Path) -> bool:
    """Whether the rule was sealed just now; False if it was before, and the ledger holds it either way.

    Raises RuleChangedError if another rule was sealed under this name.
    """
    with _one_at_a_time(runs_dir):
        ingest(ledger_path, runs_dir)
        sealed = read(ledger_path, "select * from rules where name = ?", [rule.name]).records()
        if any(row["rule_digest"] == rule.digest() for row in sealed):
            return False
        if sealed:
            raise _changed(rule, json.loads(sealed[0]["rule_json"]))
        with StudyJournal.of(runs_dir) as journal:
            journal.seal(digest=rule.digest(), rule=rule.to_json())
        ingest(ledger_path, runs_dir)
    return True


def first_difference(old: Any, new: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """Where two JSON values first differ, as (path, old, new); None if they do not. A missing part shows as None."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        parts = [(f"{path}.{name}" if path else name, old.get(name), new.get(name)) for name in names]
    elif isinstance(old, list) and isinstance(new, list):
        length = max(len(old), len(new))
        padded = [value + [None] * (length - len(value)) for value in (old, new)]
        parts = [(f"{path}[{index}]", padded[0][index], padded[1][index]) for index in range(length)]
    else:
        return None if old == new and type(old) is type(new) else (path, old, new)
    return next((found for name, a, b in parts if (found := first_difference(a, b, name))), None)


def _changed(rule: Rule, sealed: dict[str, Any]) -> RuleChangedError:
    where, old, new = first_difference(sealed, rule.to_json()) or ("digest", "another", rule.digest())
    return RuleChangedError(
        f"rule {rule.name!r} was sealed with {where} = {json.dumps(old)}, experiments.toml now makes it "
        f"{json.dumps(new)}: restore it in experiments.toml, or register it under a new name and set study.rule."
    )


@contextmanager
def _one_at_a_time(runs_dir: Path) -> Iterator[None]:
    runs_dir.mkdir(parents=True, exist_ok=True)
    with (runs_dir / LOCK_FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
