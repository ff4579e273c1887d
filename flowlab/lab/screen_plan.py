"""Plans a screen: which levers go in, which are on in which row, and what the rows need; nothing is sealed yet."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from flowlab.core.errors import StudyError
from flowlab.study.combining import Pair, find_conflicts, find_row_conflict, row_name, solo_faults, with_rows
from flowlab.study.lever import changed_keys
from flowlab.study.study import Study
from flowlab.train.cohort import shape_signature
from flowlab.verdict.design import FEWEST_LEVERS, Design, choose_design, contrast_weights

SEED_STEP = 1000
"""A screen's seeds begin after a multiple of it, so that people tell them from those of the rule."""


@dataclass(frozen=True)
class ScreenPlan:
    """A screen as it would be sealed."""

    name: str
    levers: tuple[str, ...]  # the columns of the design
    excluded: dict[str, str]  # by lever, why it is not in
    conflicts: dict[Pair, str]  # which two are never on together, and why
    design: Design
    rows: dict[str, tuple[str, ...]]  # by the name of a row, which levers are on
    num_caches: int  # that rows and levers need beside the control's

    @property
    def weights(self) -> NDArray:
        """(levers, rows): turning a lever on changes the value by its weights @ the rows' values."""
        return contrast_weights(self.design.on)


def choose_levers(
    study: Study, asked: Sequence[str], screened: Mapping[str, str], *, same_shape: bool
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The levers of `asked` that a screen can tell something of, and why the others are left out.

    `screened`: levers that a screen of this rule and base has had, with its name. Raises StudyError where too few are
    left, with the reasons.
    """
    excluded = solo_faults(study, asked)
    excluded |= {
        lever: f"{screened[lever]} has had it, on this base and for this rule: there is no second draw"
        for lever in asked
        if lever in screened and lever not in excluded
    }
    if same_shape:
        excluded = split_cohort(study, [lever for lever in asked if lever not in excluded]) | excluded
    levers = tuple(lever for lever in asked if lever not in excluded)
    if len(levers) < FEWEST_LEVERS:
        told = "".join(f" {lever}: {why}." for lever, why in excluded.items())
        raise StudyError(
            f"a screen needs {FEWEST_LEVERS} levers that can be on together, and here are {len(levers)}."
            f"{told} Try levers one at a time: flowlab run --lever NAME --seeds {study.rule.judged_seeds[0]}"
        )
    return levers, excluded


def plan_screen(
    study: Study, number: int, levers: Sequence[str], excluded: Mapping[str, str], num_rows: int | None = None
) -> ScreenPlan:
    """The screen of that number with these levers, as far as they combine: the same one for the same arguments.

    `excluded`: why other levers were left out before. Raises StudyError for too few levers or rows.
    """
    conflicts = find_conflicts(study, levers)
    lonely = _lonely(levers, conflicts)
    levers = tuple(lever for lever in levers if lever not in lonely)
    conflicts = {pair: why for pair, why in conflicts.items() if not set(pair) & lonely.keys()}
    name = f"screen{number}"
    while True:  # each turn keeps another pair apart, and there are only so many
        places = [(levers.index(one), levers.index(other)) for one, other in conflicts]
        design = choose_design(len(levers), places, num_rows, seed=number)
        rows = _name_rows(name, levers, design)
        more = dict(found for on in rows.values() if (found := find_row_conflict(study, on)) is not None)
        if not more:
            break
        conflicts |= more
    return ScreenPlan(
        name, levers, dict(excluded) | lonely, conflicts, design, rows, _count_caches(study, levers, rows)
    )


def split_cohort(study: Study, levers: Sequence[str]) -> dict[str, str]:
    """The levers whose runs do not train as one program with the control's, each with the reason."""
    shape, inputs = shape_signature(study.control), study.base.inputs
    reasons: dict[str, str] = {}
    for lever in levers:
        setup = study.setup(lever)
        keys = ", ".join(changed_keys(study.base, setup))
        if setup.inputs != inputs:
            reasons[lever] = f"it needs a cache of its own ({keys})"
        elif shape_signature(setup.recipe) != shape:
            reasons[lever] = f"its runs have another shape ({keys})"
    return reasons


def choose_seeds(taken: Collection[int], num_rows: int) -> list[int]:
    """A seed for each row, in turn, none of them `taken`: at a seed that ran before, luck would be shared."""
    first = 1
    while not set(taken).isdisjoint(range(first, first + num_rows)):
        first += SEED_STEP
    return list(range(first, first + num_rows))


def _lonely(levers: Sequence[str], conflicts: Collection[Pair]) -> dict[str, str]:
    """The levers that cannot be on together with any other one, each with the reason."""
    friends = {one: {two for two in levers if two != one} for one in levers}
    for one, other in conflicts:
        friends[one].discard(other)
        friends[other].discard(one)
    return {
        lever: "it can be on together with none of the others: run it alone" for lever in levers if not friends[lever]
    }


def _name_rows(name: str, levers: Sequence[str], design: Design) -> dict[str, tuple[str, ...]]:
    return {
        row_name(name, number): tuple(lever for lever, is_on in zip(levers, on, strict=True) if is_on)
        for number, on in enumerate(design.on, start=1)
    }


def _count_caches(study: Study, levers: Sequence[str], rows: Mapping[str, Sequence[str]]) -> int:
    rowed = with_rows(study, rows)
    inputs = {rowed.setup(name).inputs.model_dump_json() for name in (*levers, *rows)}
    return len(inputs - {study.base.inputs.model_dump_json()})
