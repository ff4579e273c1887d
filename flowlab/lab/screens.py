"""Sealed screens as the ledger has them: how far their rows are, which one goes on, and the sigma that they tell by."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flowlab.core.errors import StudyError
from flowlab.lab.plan import TERMINAL
from flowlab.lab.sealing import is_known, measured_sigma
from flowlab.ledger.connection import read
from flowlab.study.rule import PUBLISHED_SIGMA, Rule
from flowlab.study.study import Study


@dataclass(frozen=True)
class ScreenRun:
    """A row of a sealed screen, and how far its run is."""

    name: str
    seed: int
    recipe_digest: str
    levers: tuple[str, ...]
    is_weighed: bool
    status: str | None
    has_value: bool

    @property
    def waits(self) -> bool:
        """Whether its run has not ended, or not begun."""
        return self.status not in TERMINAL

    @property
    def is_lost(self) -> bool:
        """Whether its run has ended without the number that the rule looks at: it crashed, or has no such metric."""
        return not self.waits and not self.has_value


@dataclass(frozen=True)
class SealedScreen:
    """A screen of the rule in force, on the ledger's last base."""

    name: str
    levers: tuple[str, ...]
    untold: tuple[str, ...]  # of the levers, those that can no longer be told from the others
    excluded: tuple[str, ...]  # levers that were left out
    runs: tuple[ScreenRun, ...]

    @property
    def lost(self) -> tuple[str, ...]:
        """The rows that are still weighed and will never have a value."""
        return tuple(run.name for run in self.runs if run.is_weighed and run.is_lost)

    @property
    def is_finished(self) -> bool:
        return not self.lost and not any(run.waits for run in self.runs)


def find_screens(study: Study) -> list[SealedScreen]:
    """The screens of the rule in force on the ledger's last base, oldest first; none where there is no ledger."""
    if not study.ledger.exists():
        return []
    question = """
        select screen
        from screens
        semi join rules_in_force using (rule_digest)
        where base_id = (select base_id from bases order by entry desc limit 1)
        order by entry"""
    return [read_screen(study, name) for (name,) in read(study.ledger, question).rows]


def current_screen(study: Study, asked: Sequence[str] | None, num_rows: int | None) -> SealedScreen | None:
    """The last screen, if that is what is asked for, by its levers or by nothing; None where another has to begin.

    Raises StudyError if another is asked for before that one is finished.
    """
    screens = find_screens(study)
    if not screens:
        return None
    last = screens[-1]
    is_same = asked is None or set(last.levers) <= set(asked) <= {*last.levers, *last.excluded}
    if is_same and (num_rows or 0) <= len(last.runs):
        return last
    if not last.is_finished:
        ended = sum(not run.waits for run in last.runs)
        raise StudyError(
            f"{last.name} is sealed, and {ended} of its {len(last.runs)} rows have ended. Go on with it: flowlab "
            f"screen; or begin another one beside it: flowlab screen --new"
        )
    return None


def screened_levers(study: Study) -> dict[str, str]:
    """By lever that a screen of the rule in force on this base tells something of, or will, the screen's name."""
    return {lever: one.name for one in find_screens(study) for lever in one.levers if lever not in one.untold}


def read_screen(study: Study, name: str) -> SealedScreen:
    """That screen, and how far its rows are."""
    question = "select lever, num_rows from screen_effects where screen = ? order by position"
    levers = read(study.ledger, question, [name]).rows
    question = """
        select row_name, seed, recipe_digest, levers, is_weighed, status, value is not null
        from screen_runs where screen = ? order by position"""
    rows = read(study.ledger, question, [name]).rows
    ((excluded,),) = read(study.ledger, "select excluded_json from screens where screen = ?", [name]).rows
    return SealedScreen(
        name=name,
        levers=tuple(lever for lever, _ in levers),
        untold=tuple(lever for lever, num_rows in levers if not num_rows),
        excluded=tuple(json.loads(excluded)),
        runs=tuple(ScreenRun(row, seed, digest, tuple(on), *state) for row, seed, digest, on, *state in rows),
    )


class Noise(NamedTuple):
    """The standard deviation over seeds by which a screen tells its standard errors; `df` 0 where it is assumed."""

    sigma: float
    df: int


def known_noise(study: Study, rule: Rule, base_id: str = "") -> Noise:
    """The sigma that is sealed with the rule, else the one that controls measured, else the published one."""
    if rule.sigma is not None:
        return Noise(rule.sigma.value, rule.sigma.df)
    measured = measured_sigma(study, base_id) if study.ledger.exists() else None
    return Noise(measured.value, measured.df) if measured and is_known(measured) else Noise(PUBLISHED_SIGMA, 0)


def next_number(study: Study) -> int:
    """The number of the study's next screen."""
    if not study.ledger.exists():
        return 1
    return 1 + read(study.ledger, "select count(*) from screens").rows[0][0]


def require_screens(rule: Rule) -> None:
    """Raises StudyError for a rule that does not say what a screen has to show."""
    if rule.screen is None:
        raise StudyError(
            f"rule {rule.name!r} says nothing of screens, so no lever could go on from one. Take a rule of the preset "
            f"'screen', or give it, before it is sealed, a table: screen = {{ bar = 0.010, guard = 2.0 }}"
        )


def screen_bar(rule: Rule, noise: Noise) -> tuple[float, float]:
    """What an effect must exceed, in the metric's units, and how many pseudo standard errors."""
    assert rule.screen is not None
    return rule.screen.bar * (noise.sigma if rule.screen.bar_unit == "sigma" else 1.0), rule.screen.guard
