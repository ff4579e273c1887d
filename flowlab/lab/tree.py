"""The tree that the loop goes through: registered before its first phase, amended on the record, how far it is."""

import json
from dataclasses import dataclass
from typing import Any

from flowlab.core.errors import MissingError, RuleChangedError, RuleRefusedError
from flowlab.journal.lines import StudyJournal
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.study import Study
from flowlab.study.tree import PhaseSettings, TreeSettings
from flowlab.verdict.seal import first_difference, one_at_a_time, rules_in_force

EXAMPLE = '[[tree.phases]] name = "loss" levers = ["delta-off", "lds-off"] runs = 20'


@dataclass(frozen=True)
class PhaseState:
    """How far a phase of the registered tree is: what its budget has gone on since it began."""

    phase: PhaseSettings
    state: str  # "waits", "began", "ended"
    why: str  # it began or ended
    runs: int
    minutes: float

    @property
    def budget_left(self) -> str:
        """ "" while there is some; else which part of the budget is used up."""
        if self.phase.runs is not None and self.runs >= self.phase.runs:
            return f"its budget of {self.phase.runs} runs is used up"
        if self.phase.minutes is not None and self.minutes >= self.phase.minutes:
            return f"its budget of {self.phase.minutes:g} minutes is used up"
        return ""


def tree_of(study: Study) -> TreeSettings:
    """The tree of experiments.toml. Raises MissingError, with an example, for a study without one."""
    if study.file.tree is None:
        raise MissingError(f"experiments.toml has no [tree] for the loop to go through. Write one, such as {EXAMPLE}")
    return study.file.tree


def register_tree(study: Study, reason: str | None = None) -> str:
    """Put the study's tree on record before anything of it runs; gives its digest.

    Raises RuleChangedError where another tree is registered and there is no `reason` to amend it, RuleRefusedError for
    an empty reason, or one where nothing is amended.
    """
    tree = tree_of(study)
    with one_at_a_time(study.runs):
        ingest(study.ledger, study.runs, runs_too=False)
        rows = read(study.ledger, "select tree_digest, tree_json from trees order by entry desc limit 1").rows
        amended, told = rows[0] if rows else (None, "{}")
        if reason is not None and (not reason.strip() or amended in (None, tree.digest())):
            why = "an amendment needs a reason" if not reason.strip() else "the tree is as it was registered"
            raise RuleRefusedError(f"{why}: nothing was amended. Go on without --amend: flowlab loop")
        if amended == tree.digest():
            return amended
        if amended is not None and reason is None:
            raise RuleChangedError(_told_change(json.loads(told), tree))
        with StudyJournal.of(study.runs) as journal:
            more = {} if amended is None else {"amended_digest": amended, "reason": (reason or "").strip()}
            journal.tree(digest=tree.digest(), tree=tree.to_json(), **more)
        ingest(study.ledger, study.runs, runs_too=False)
    return tree.digest()


def _told_change(registered: dict[str, Any], tree: TreeSettings) -> str:
    where, old, new = first_difference(registered, tree.to_json()) or ("tree", "another", "this one")
    return (
        f"the tree is registered with {where} = {json.dumps(old)}, experiments.toml now makes it {json.dumps(new)}: "
        f"restore it there, or change it on the record: flowlab loop --amend REASON"
    )


def why_refused(study: Study) -> str:
    """Why a loop would not begin as experiments.toml is now: another tree or rule is on record; "" where it would."""
    rows = read(study.ledger, "select tree_digest, tree_json from trees order by entry desc limit 1").rows
    if rows and rows[0][0] != tree_of(study).digest():
        return _told_change(json.loads(rows[0][1]), tree_of(study))
    in_force = rules_in_force(study.ledger)
    if in_force and study.rule.terms() not in [sealed.rule.terms() for sealed in in_force]:
        return (
            f"rule {in_force[0].rule.name!r} is in force, and experiments.toml has it otherwise now: flowlab rule amend"
        )
    return ""


def read_phases(study: Study) -> list[PhaseState]:
    """The phases of the study's tree, with how far each is if the tree is registered as it stands."""
    tree = tree_of(study)
    question = "select phase, state, why, num_runs, minutes from phase_states where tree_digest = ?"
    found = {row[0]: row[1:] for row in read(study.ledger, question, [tree.digest()]).rows}
    return [PhaseState(phase, *found.get(phase.name, ("waits", "", 0, 0.0))) for phase in tree.phases]


def tell_phase(study: Study, name: str, what: str, why: str) -> None:
    """Put on record that a phase "began" or "ended", and why."""
    with StudyJournal.of(study.runs) as journal:
        journal.phase(tree_digest=tree_of(study).digest(), phase=name, what=what, why=why)
    ingest(study.ledger, study.runs, runs_too=False)
