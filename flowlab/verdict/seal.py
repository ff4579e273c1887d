"""Seals a rule before the runs that it judges, and changes it on the record. One rule is in force at a time."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from flowlab.core.errors import BusyError, RuleChangedError, RuleRefusedError
from flowlab.core.locks import hold
from flowlab.core.progress import Progress
from flowlab.ledger.connection import read, reading
from flowlab.ledger.ingest import ingest
from flowlab.study.rule import Rule, require_guarded, require_sealable

LOCK_FILE = "study.lock"
LEAST_BEHIND_S = 1.0  # that clocks of two machines differ by less is nothing to tell


class Sealed(NamedTuple):
    """A rule as the ledger has it. The digest is that of its seal, whatever later versions add to rules."""

    digest: str
    rule: Rule


def register_design(rule: Rule, runs_dir: Path, ledger_path: Path, base_id: str) -> None:
    """Write down the rule's seeds, statistics and guardrails before its panel is seen: its bars are sealed after that.

    Raises RuleRefusedError for a rule that must not be sealed, RuleChangedError where controls of its panel ran for
    another design: a panel that is chosen after it was seen can stack nothing.
    """
    from flowlab.journal.lines import StudyJournal

    require_guarded(rule)
    with one_at_a_time(runs_dir), reading(ledger_path):
        ingest(ledger_path, runs_dir)
        newest = _newest_design(ledger_path)
        if newest == rule.design():
            return
        question = (
            "select seed from told_runs where is_control and base_id = ? and list_contains(?, seed) order by seed"
        )
        seen = [seed for (seed,) in read(ledger_path, question, [base_id, list(rule.panel_seeds)]).rows]
        if newest is not None and seen:
            where, old, new = first_difference(newest, rule.design()) or ("its design", "another", "this one")
            raise RuleChangedError(
                f"the control at {', '.join(map(str, seen))} ran for a rule with {where} = {json.dumps(old)}, "
                f"experiments.toml now makes it {json.dumps(new)}: restore it there (bars may change until they are "
                f"sealed), or give panel_seeds that nobody has seen."
            )
        require_unseen(rule, ledger_path)
        with StudyJournal.of(runs_dir) as journal:
            journal.calibrate(digest=rule.design_digest(), design=rule.design())
        ingest(ledger_path, runs_dir)


def require_unseen(rule: Rule, ledger_path: Path, old: Rule | None = None) -> None:
    """Raises RuleRefusedError for seeds that a rule takes in after something ran at them.

    A seed's luck is much the same for every recipe: who has seen any run at many seeds can choose those where a panel
    is unlucky, or a lever lucky. The panel of the `old` rule may be taken over whole, and its judged seeds, then its
    panel, in their order. Before there is a rule only runs with a purpose of their own can have been seen.
    """
    kept = {"panel": set[int](), "judged": set[int]()}
    if old is not None:
        in_order = dict.fromkeys((*old.judged_seeds, *old.panel_seeds))
        pairs = zip(rule.judged_seeds, in_order, strict=False)
        kept["judged"] = {seed for seed, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)}
        if set(old.panel_seeds) <= set(rule.panel_seeds):
            kept["panel"] = set(old.panel_seeds)
    seen = "select run_id, seed from told_runs where origin is null and list_contains(?, seed)"
    seen += " and purpose is not null" if old is None else ""
    for role, seeds in {"panel": rule.panel_seeds, "judged": rule.judged_seeds}.items():
        chosen = [seed for seed in seeds if seed not in kept[role]]
        for run_id, seed in read(ledger_path, f"{seen} order by entry limit 1", [chosen]).rows:
            raise RuleRefusedError(
                f"rule {rule.name!r} takes in {role} seed {seed}, at which {run_id} has run: a seed's luck is much the "
                f"same for every recipe, so none may be chosen after it was seen. Give {role}_seeds at which nothing "
                f"has run, or keep those of the rule in force, in their order."
            )


def _newest_design(ledger_path: Path) -> dict[str, Any] | None:
    """The design that was registered last, if one was."""
    rows = read(ledger_path, "select design_json from calibrations order by entry desc limit 1").rows
    return json.loads(rows[0][0]) if rows else None


def seal_rule(rule: Rule, runs_dir: Path, ledger_path: Path, simulated: Mapping[str, Any] | None = None) -> bool:
    """Whether the rule was sealed just now; False if it was before, and the ledger holds it either way.

    `simulated`: the error rates that were shown before. Raises RuleRefusedError for a rule that must not be sealed,
    RuleChangedError if another rule is in force.
    """
    from flowlab.journal.lines import StudyJournal

    require_sealable(rule)
    with one_at_a_time(runs_dir), reading(ledger_path):
        ingest(ledger_path, runs_dir)
        if is_in_force(rule, ledger_path):
            return False
        design = rule.design_digest() if _newest_design(ledger_path) == rule.design() else None
        if design is None:
            require_unseen(rule, ledger_path)
        with StudyJournal.of(runs_dir) as journal:
            journal.seal(digest=rule.digest(), rule=rule.to_json(), simulated=simulated, calibration=design)
        ingest(ledger_path, runs_dir)
    return True


def amend_rule(
    rule: Rule, reason: str, runs_dir: Path, ledger_path: Path, simulated: Mapping[str, Any] | None = None
) -> None:
    """Put `rule` in the place of the one in force. All that was run before is post-hoc for it.

    Raises RuleRefusedError for a rule that must not be sealed or that drops a guardrail, without a reason, and where
    there is nothing to amend.
    """
    from flowlab.journal.lines import StudyJournal

    require_sealable(rule)
    with one_at_a_time(runs_dir), reading(ledger_path):
        ingest(ledger_path, runs_dir)
        old = require_amendable(rule, reason, ledger_path)
        require_unseen(rule, ledger_path, old.rule)
        with StudyJournal.of(runs_dir) as journal:
            journal.amend(
                digest=rule.digest(),
                rule=rule.to_json(),
                amended_digest=old.digest,
                reason=reason.strip(),
                simulated=simulated,
            )
        ingest(ledger_path, runs_dir)


def tell_clock(ledger_path: Path, progress: Progress) -> None:
    """Say so if this machine's clock is behind the newest entry of the ledger. No decision looks at a clock.

    What is older than a rule follows from the order of entries, so this is for whoever reads the times beside them.
    """
    question = "select greatest((select max(time_us) from chain), (select max(time_us) from events))"
    ((newest_us,),) = read(ledger_path, question).rows
    behind_s = ((newest_us or 0) - time.time_ns() // 1000) / 1e6
    if behind_s >= LEAST_BEHIND_S:
        progress.say(
            f"note: this machine's clock is {behind_s:,.0f} s behind the newest entry of {ledger_path.name}. The order "
            f"of entries decides, so nothing is barred by that, but times will read wrong: set the clock"
        )


def is_in_force(rule: Rule, ledger_path: Path) -> bool:
    """Whether this rule is in force; False if no rule is. Raises RuleChangedError if another one is."""
    in_force = rules_in_force(ledger_path)
    if any(sealed.digest == rule.digest() for sealed in in_force):
        return True
    if in_force:
        raise _changed(rule, in_force[-1].rule)
    return False


def rules_in_force(ledger_path: Path) -> list[Sealed]:
    """The sealed rules that no amendment has replaced, oldest first: one, unless an early flowlab sealed more."""
    rows = read(ledger_path, "select rule_digest, rule_json from rules_in_force order by entry, since_us").rows
    return [Sealed(digest, Rule.model_validate_json(rule_json)) for digest, rule_json in rows]


def require_amendable(rule: Rule, reason: str, ledger_path: Path) -> Sealed:
    """The rule in force, when `rule` may take its place for that reason. Raises RuleRefusedError."""
    if not reason.strip():
        raise RuleRefusedError("an amendment needs a reason: it stands in the ledger for ever. Give --reason TEXT.")
    in_force = rules_in_force(ledger_path)
    if not in_force:
        raise RuleRefusedError(
            f"no rule is in force, so there is nothing to amend. Seal {rule.name!r}: flowlab rule seal"
        )
    old = in_force[-1]
    if old.digest == rule.digest():
        raise RuleRefusedError(
            f"rule {rule.name!r} is in force as it is: experiments.toml changes nothing of it. Change it there first."
        )
    if read(ledger_path, "select 1 from rules where rule_digest = ?", [rule.digest()]).rows:
        raise RuleRefusedError(
            f"this very rule {rule.name!r} was sealed before and amended away: what ran since is not new to it. "
            f"Register it under another name."
        )
    kept = {guardrail.shown() for guardrail in rule.guardrails}
    for guardrail in old.rule.guardrails:
        if guardrail.shown() not in kept:
            raise RuleRefusedError(
                f"the guardrail {guardrail.shown()} (margin {guardrail.margin:g}) of rule {old.rule.name!r} is gone "
                f"from {rule.name!r}: an amendment may change a margin, never drop one. Put it back in "
                f"rules.{rule.name}."
            )
    return old


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


def _changed(rule: Rule, sealed: Rule) -> RuleChangedError:
    where, old, new = first_difference(sealed.to_json(), rule.to_json()) or ("digest", "another", rule.digest())
    if where == "evaluation.frames":
        return RuleChangedError(
            f"rule {sealed.name!r} is in force for other validation frames than experiments.toml now gives: drives "
            f"that validate came, went or were recorded anew, or [windows] changed. Name the drives of before in "
            f"split.val, or change the rule on the record: flowlab rule amend --reason TEXT"
        )
    return RuleChangedError(
        f"rule {sealed.name!r} is in force with {where} = {json.dumps(old)}, experiments.toml now makes it "
        f"{json.dumps(new)}: restore it there, or change the rule on the record: flowlab rule amend --reason TEXT"
    )


@contextmanager
def one_at_a_time(runs_dir: Path, patience_s: float | None = None) -> Iterator[None]:
    """One process at a time takes a decision of the study. Raises BusyError after `patience_s` seconds, if given."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    busy = BusyError(f"another flowlab process takes a decision of the study (it holds {runs_dir / LOCK_FILE})")
    with hold(runs_dir / LOCK_FILE, patience_s, busy):
        yield
