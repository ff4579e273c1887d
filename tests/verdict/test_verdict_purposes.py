"""Runs with a purpose of their own are on record, and no rule looks at them, whatever they are called."""

import pytest

from tests.verdict.campaign import panel_rule
from tests.verdict.told import Told


def begin(told: Told, *controls: float) -> None:
    """A sealed panel rule of two controls at 1001 and 1002, judging there, and these controls."""
    told.seal(panel_rule())
    told.base()
    told.controls(*controls)


PURPOSES = pytest.mark.parametrize("purpose", ["exploratory", "full-path"])


@PURPOSES
def test_such_a_run_of_a_lever_is_not_judged(told: Told, purpose: str) -> None:
    begin(told, 0.40, 0.40)
    told.lever("good", 0.30, tags=[f"purpose:{purpose}"])
    assert told.ask("lever from verdicts") == []
    assert told.ask("why from exploratory_runs") == [(purpose,)]


def test_such_a_crash_neither_drops_a_lever_nor_keeps_a_seed_from_being_owed(told: Told) -> None:
    begin(told, 0.40, 0.40)
    told.lever("good", 0.30)
    told.run("good", 1002, None, ending="crashed", tags=["purpose:full-path"])
    assert told.ask("decision from verdicts") == [("undecided",)]
    assert told.ask("lever, seed from owed_runs") == [("good", 1002)]


def test_such_a_run_takes_no_place_of_one_that_is_judged(told: Told) -> None:
    begin(told, 0.40, 0.40)
    told.run("good", 1001, 0.90, tags=["purpose:full-path"])
    told.lever("good", 0.30, 0.30)
    assert told.ask("decision, lever_mean from verdicts") == [("stack", 0.30)]


def test_such_a_control_is_not_of_the_panel(told: Told) -> None:
    begin(told, 0.40)
    told.run("control", 1002, 0.40, tags=["purpose:full-path"])
    assert told.ask("seed from panel") == [(1001,)]
    assert told.ask("seed from owed_runs") == [(1002,)]
