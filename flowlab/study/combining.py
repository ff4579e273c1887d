"""Which levers of a study can be on together, and a study that has each row of a screen as one more lever."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from flowlab.core.errors import FlowlabError, StudyError
from flowlab.study.lever import changed_keys, flat_keys, pull
from flowlab.study.settings import LeverSettings
from flowlab.study.setup import Setup
from flowlab.study.study import Study, require_sound

Pair = tuple[str, str]


def row_name(screen: str, position: int) -> str:
    """The name of a screen's row, from 1. No lever can be named so: its name has no underscore."""
    return f"{screen}_row{position:02d}"


def solo_faults(study: Study, levers: Sequence[str]) -> dict[str, str]:
    """The levers that no screen can tell anything of, each with the reason."""
    return {lever: why for lever in levers if (why := _solo_fault(study, lever))}


def _solo_fault(study: Study, lever: str) -> str:
    study.require_lever(lever)
    if lever in study.stacked:
        return "it is stacked: the control has its changes"
    if lever in study.overtaken:
        return f"it makes no sense on the control as it is now: {study.overtaken[lever]}"
    if study.file.levers[lever].stats == "own":
        return "it has stats of its own, which in a row would be those of all that is on: run it alone"
    if not changed_keys(study.base, study.setup(lever)):
        return "it changes nothing that the control does not have already, like a placebo"
    if study.twin_keys(lever):
        return f"it changes {', '.join(study.twin_keys(lever))} by less than a millionth: a twin of the control"
    return ""


def find_conflicts(study: Study, levers: Sequence[str]) -> dict[Pair, str]:
    """The pairs of levers that cannot be on together, in the order given, each with the reason.

    They can where they change no key in common, the two together are a recipe that could be trained, and it does not
    matter which change is made first. The levers must be without `solo_faults`.
    """
    touched = {lever: _touched(study, lever) for lever in levers}
    reasons: dict[Pair, str] = {}
    for one, other in combinations(levers, 2):
        shared = _shared_keys(touched[one], touched[other])
        why = f"both change {', '.join(shared)}" if shared else _refusal(study, (one, other), (other, one))
        if why:
            reasons[one, other] = why
    return reasons


def find_row_conflict(study: Study, levers: Sequence[str]) -> tuple[Pair, str] | None:
    """None for levers that can be on together, else two of them that must not be if the others are, with the reason.

    Levers may combine in pairs and not all at once: three sizes that have to divide each other.
    """
    if not _refusal(study, levers):
        return None
    kept = list(levers)
    for lever in levers:
        rest = [other for other in kept if other != lever]
        kept = rest if _refusal(study, rest) else kept
    one, other, *more = kept
    also = f"with {', '.join(more)} " if more else ""
    return (one, other), also + _refusal(study, kept)


def with_rows(study: Study, rows: Mapping[str, Sequence[str]]) -> Study:
    """The study with one more lever for each row, named by `row_name`, that makes the changes of the row's levers.

    Raises StudyError for levers that cannot be on together.
    """
    for name, levers in rows.items():
        refusal = _refusal(study, levers)
        if refusal:
            raise StudyError(f"{name} cannot have {', '.join(levers)} on together: {refusal}")
    added = {name: _merged(study, levers, _hypothesis(name, levers)) for name, levers in rows.items()}
    return replace(study, file=study.file.model_copy(update={"levers": study.file.levers | added}))


def _hypothesis(name: str, levers: Sequence[str]) -> str:
    screen, _, number = name.partition("_row")
    return f"row {int(number)} of {screen}: {', '.join(levers)}"


def _merged(study: Study, levers: Sequence[str], hypothesis: str = "") -> LeverSettings:
    """One lever with the changes of all."""
    changes = {key: value for lever in levers for key, value in flat_keys(study.file.levers[lever].set)}
    return LeverSettings(set=changes, hypothesis=hypothesis, tags=("screen",))


@dataclass(frozen=True)
class _Touched:
    """The dotted keys that a lever sets, those of them that the control has so already, and those that it changes."""

    given: frozenset[str]
    idle: frozenset[str]
    changed: frozenset[str]


def _touched(study: Study, lever: str) -> _Touched:
    given = frozenset(key for key, _ in flat_keys(study.file.levers[lever].set))
    changed = changed_keys(study.base, study.setup(lever))
    return _Touched(given, frozenset(study.idle_keys(lever)), frozenset(changed))


def _shared_keys(one: _Touched, other: _Touched) -> list[str]:
    """What both set or change: keys, and tables that one sets whole where the other sets a key in them.

    A key that both set to what the control has already is in nobody's way.
    """
    both = (one.given & other.given) - (one.idle & other.idle) | (one.changed & other.changed)
    both |= {key for key in one.given for inside in other.given if inside.startswith(f"{key}.")}
    both |= {key for key in other.given for inside in one.given if inside.startswith(f"{key}.")}
    return sorted(key for key in both if not any(key.startswith(f"{table}.") for table in both))


def _refusal(study: Study, *orders: Sequence[str]) -> str:
    """Why these changes do not make one setup that could be trained, or ""; the same one in each of the orders."""
    who = " + ".join(orders[0])
    try:
        setup = pull(who, study.base, _merged(study, orders[0]))
        require_sound(f"levers.{who}", setup)
        if any(setup != _in_turn(study, levers) for levers in orders):
            return "which of the changes is made first matters"
    except FlowlabError as error:
        return str(error).removeprefix("levers.").removesuffix(" Leave it out.")
    return ""


def _in_turn(study: Study, levers: Sequence[str]) -> Setup:
    """The control's setup with the levers' changes made one after the other."""
    setup = study.base
    for lever in levers:
        setup = study.changed(lever, setup)
    return setup
