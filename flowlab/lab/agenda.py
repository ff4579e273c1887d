"""What the loop would do next, from the ledger alone: nothing is opened, built or written. Needs no torch."""

from typing import Any

from flowlab.core.vocabulary import CONTROL
from flowlab.lab.tree import PhaseState, read_phases
from flowlab.ledger.connection import read, reading
from flowlab.study.study import Study
from flowlab.verdict.judge import read_owed


def read_agenda(study: Study) -> dict[str, Any]:
    """How far each phase is, with the newest decision on each of its levers, and the runs that would be begun now."""
    with reading(study.ledger):
        return _read_agenda(study)


def _read_agenda(study: Study) -> dict[str, Any]:
    states = read_phases(study)
    decisions = _decisions(study)
    phases = [
        {
            "phase": state.phase.name,
            "kind": state.phase.kind,
            "state": state.state,
            "why": state.why,
            "runs": state.runs,
            "minutes": state.minutes,
            "always": state.phase.always,
            "levers": {lever: decisions.get(lever, "") for lever in state.phase.levers},
            "told": _told(state, decisions),
        }
        for state in states
    ]
    current = next((state for state in states if state.state != "ended"), None)
    return {"phases": phases, "next": [] if current is None else _next(study, current, decisions)}


def _decisions(study: Study) -> dict[str, str]:
    """By lever what the rule in force says of it: on the newest base that it ran on, and "stacked" once it is."""
    question = """
        select lever, arg_max(decision, coalesce(bases.entry, 0))
        from decisions
        semi join rules_in_force using (rule_digest)
        left join (select base_id, max(entry) as entry from bases group by base_id) as bases using (base_id)
        group by lever"""
    return dict(read(study.ledger, question).rows) | dict.fromkeys(study.stacked, "stacked")


def _told(state: PhaseState, decisions: dict[str, str]) -> str:
    """A phase's levers with what is decided of them, and why it ended."""
    levers = ", ".join(f"{lever} {decisions.get(lever, '')}".strip() for lever in state.phase.levers)
    ended = state.why if state.state == "ended" else ""
    return "; ".join(part for part in (levers or state.phase.kind, ended) if part)


def _next(study: Study, state: PhaseState, decisions: dict[str, str]) -> list[str]:
    """The runs of this phase that would be begun now."""
    if state.phase.kind != "levers":
        return [f"{state.phase.kind} of the base"]
    rule = study.rule
    if not read(study.ledger, "select 1 from rules_in_force limit 1").rows:
        done = "select seed from evidence where is_control"
        there = {seed for (seed,) in read(study.ledger, done).rows}
        return [f"{CONTROL}@{seed}" for seed in rule.control_seeds if seed not in there]
    open_levers = [lever for lever in state.phase.levers if lever in study.open_levers]
    owed = [run for run in read_owed(study.ledger) if run.lever == CONTROL or run.lever in open_levers]
    looks = [f"{lever}@{seed}" for lever in open_levers if lever not in decisions for seed in rule.first_seeds]
    return [*(f"{run.lever}@{run.seed}" for run in owed), *looks]
