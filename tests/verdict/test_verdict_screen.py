"""What a screen says of its levers, on designs of a few rows that are reckoned by hand, and what a rule makes of it."""

import pytest

from flowlab.study.rule import Rule, Sigma
from flowlab.study.settings import ScreenBar
from tests.verdict.campaign import PRIMARY, panel_rule, preset, sealable
from tests.verdict.told import Told

JUDGED = (2001, 2002, 2003)


def screening(bar: float = 0.010, guard: float = 2.0, **changes: object) -> Rule:
    """The preset `screen` with a panel of two, by other bars of the screen."""
    terms = {"screen": ScreenBar(bar=bar, guard=guard)} | changes
    return sealable(preset("screen", (1001, 1002), JUDGED).model_copy(update=terms))


ROWS = {"screen1_row1": (), "screen1_row2": ("a",), "screen1_row3": ("b",), "screen1_row4": ("a", "b")}
WEIGHTS = {"a": [-0.5, 0.5, -0.5, 0.5], "b": [-0.5, -0.5, 0.5, 0.5]}
VALUES = (0.400, 0.370, 0.395, 0.371)
"""a: (0.370 + 0.371 - 0.400 - 0.395) / 2 = -0.027, which is 0.027 better; b: -0.002."""


def screen(told: Told, rule: Rule, values: tuple[float | None, ...] = VALUES, **changes: object) -> None:
    """The screen of a and b, with its rows' runs."""
    told.screen(rule, ROWS, WEIGHTS, **changes)
    run_rows(told, values)


def run_rows(told: Told, values: tuple[float | None, ...], **changes: object) -> None:
    for seed, (name, value) in enumerate(zip(ROWS, values, strict=True), start=5001):
        if value is not None:
            told.run(name, seed, value, **changes)


def effects(told: Told, *columns: str) -> dict[str, tuple]:
    """Columns of screen_effects by lever."""
    return {
        row[0]: row[1:] for row in told.ask(f"lever, {', '.join(columns)} from screen_effects order by screen, lever")
    }


def alone(told: Told, rule: Rule, **values: float) -> None:
    """A screen of levers of which each has a row of its own, against one row without any: effects are 0.4 - value."""
    rows = {"screen1_row0": ()} | {f"screen1_row-{lever}": (lever,) for lever in values}
    at = {lever: position for position, lever in enumerate(values, start=1)}
    weights = {lever: [-1.0 if n == 0 else float(n == at[lever]) for n in range(len(rows))] for lever in values}
    told.screen(rule, rows, weights)
    for seed, (name, value) in enumerate(zip(rows, (0.4, *values.values()), strict=True), start=5001):
        told.run(name, seed, value)


def test_an_effect_is_the_weighted_sum_of_its_rows_with_its_error_by_sigma(told: Told) -> None:
    """Four weights of a half: 0.014 x sqrt(4 / 4). Lenth's from two contrasts: 1.5 x the median 0.0145."""
    rule = told.seal(screening())
    screen(told, rule)
    found = effects(told, "num_rows", "num_finished", "effect", "se", "bar", "pse", "needed", "goes_on")
    near = pytest.approx
    assert found["a"] == (4, 4, near(0.027), near(0.014), 0.010, near(0.02175), near(0.0435), False)
    assert found["b"] == (4, 4, near(0.002), near(0.014), 0.010, near(0.02175), near(0.0435), False)


def test_the_guard_is_lowered_by_the_rule_alone(told: Told) -> None:
    """Half of Lenth's 0.02175 is 0.010875, less than a's 0.027; the line of the screen says 2 of them, and 0.5."""
    rule = told.seal(screening(guard=0.5))
    screen(told, rule, bar=0.5, guard=2.0)
    found = effects(told, "needed", "goes_on", "reason")
    assert found["a"] == (pytest.approx(0.010875), True, "screen1: 0.0270 better, more than 0.0109: goes on")
    assert found["b"][1:] == (False, "screen1: 0.0020 better, needs more than 0.0109: not shown at this budget")


def test_lenths_error_leaves_out_what_stands_far_out(told: Told) -> None:
    """Effects 0.001 to 0.004 and 0.1: 1.5 x the median 0.003 is 0.0045; below 2.5 of them 1.5 x the median 0.0025."""
    rule = told.seal(screening(guard=4.0))
    alone(told, rule, a=0.399, b=0.398, c=0.397, d=0.396, e=0.300)
    found = effects(told, "pse", "needed", "goes_on")
    assert found["e"] == (pytest.approx(0.00375), pytest.approx(0.015), True)
    assert [lever for lever, row in found.items() if row[2]] == ["e"]


def test_contrasts_that_are_all_nothing_have_no_error_and_the_bar_stands(told: Told) -> None:
    rule = told.seal(screening())
    alone(told, rule, a=0.4, b=0.4, c=0.4)
    assert effects(told, "needed", "goes_on")["a"] == (0.010, False)


@pytest.mark.parametrize(("value", "goes_on"), [(0.390, False), (0.38999999, True)])
def test_an_effect_of_exactly_the_bar_does_not_go_on(told: Told, value: float, goes_on: bool) -> None:
    assert 0.4 - 0.39 > 0.010  # in floats; by hand it is 0.010
    rule = told.seal(screening())
    alone(told, rule, a=value, b=0.4, c=0.4)
    assert effects(told, "goes_on")["a"] == (goes_on,)


def test_where_more_is_better_the_effect_turns_round(told: Told) -> None:
    rule = told.seal(screening(primary=PRIMARY.model_copy(update={"direction": "higher"})))
    alone(told, rule, worse=0.35, better=0.42, same=0.4)
    found = effects(told, "round(effect, 9)", "goes_on")
    assert found == {"worse": (-0.05, False), "better": (0.02, False), "same": (0.0, False)}
    assert effects(told, "needed")["better"] == (pytest.approx(0.06),), "2 x 1.5 x the median of 0, 0.02, 0.05"


def test_a_screen_in_sigma_has_the_bar_of_the_sealed_one(told: Told) -> None:
    """0.714 of a sealed 0.02 is 0.01428."""
    bar = ScreenBar(bar=0.714, guard=0.0, bar_unit="sigma")
    rule = told.seal(screening(screen=bar, sigma=Sigma(value=0.02, df=15)))
    alone(told, rule, a=0.4 - 0.0142, b=0.4 - 0.0143, c=0.4)
    assert effects(told, "bar", "goes_on") == {
        "a": (pytest.approx(0.01428), False),
        "b": (pytest.approx(0.01428), True),
        "c": (pytest.approx(0.01428), False),
    }


def waits(told: Told) -> str:
    """The reason of lever a, which has no effect yet."""
    ((effect, goes_on, reason),) = told.ask("effect, goes_on, reason from screen_effects where lever = 'a'")
    assert (effect, goes_on) == (None, None)
    return reason


def test_no_effect_is_told_before_all_rows_are_there(told: Told) -> None:
    screen(told, told.seal(screening()), (*VALUES[:3], None))
    assert waits(told) == "screen1: waits for 1 of 4 rows"


def test_a_row_that_is_older_than_the_screen_does_not_count(told: Told) -> None:
    rule = told.seal(screening())
    told.run("screen1_row1", 5001, VALUES[0])
    screen(told, rule, (None, *VALUES[1:]))
    assert waits(told) == "screen1: waits for 1 of 4 rows"


@pytest.mark.parametrize("change", [{"origin": "mlflow:a.db"}, {"replicate": 1}, {"recipe": "another"}])
def test_a_run_that_is_not_the_row_s_own_does_not_count(told: Told, change: dict) -> None:
    rule = told.seal(screening())
    screen(told, rule, (None, *VALUES[1:]))
    told.run("screen1_row1", 5001, 0.4, **change)
    assert waits(told) == "screen1: waits for 1 of 4 rows"


def test_a_row_that_ran_twice_under_two_ids_counts_once(told: Told) -> None:
    """The first that finished, whatever an earlier attempt under another id came to."""
    rule = told.seal(screening())
    told.screen(rule, ROWS, WEIGHTS)
    told.run("screen1_row1", 5001, None, ending="crashed")
    run_rows(told, VALUES)
    run_rows(told, (0.1, 0.2, 0.3, 0.4))
    assert effects(told, "round(effect, 9)") == {"a": (0.027,), "b": (0.002,)}
    assert told.ask("count(*) from screen_runs") == [(4,)]


SOLVED = {"a": [-1.0, 1.0, 0.0], "b": [-1.0, 0.0, 1.0]}
LEFT = ["screen1_row1", "screen1_row2", "screen1_row3"]


def crashed_fourth(told: Told) -> Rule:
    """A screen whose last row crashed."""
    rule = told.seal(screening(guard=0.0))
    screen(told, rule, (*VALUES[:3], None))
    told.run("screen1_row4", 5004, None, ending="crashed")
    return rule


def test_a_row_that_crashed_holds_the_screen_up_until_its_weights_are_solved_anew(told: Told) -> None:
    """Without the fourth row a is 0.400 - 0.370 and b 0.400 - 0.395, each with weights -1 and 1."""
    crashed_fourth(told)
    assert (
        waits(told)
        == "screen1: waits for 1 of 4 rows, of which 1 will not come: flowlab screen solves its weights anew"
    )
    told.weights(2, LEFT, SOLVED)
    found = effects(told, "num_rows", "round(effect, 9)", "round(se, 9)", "goes_on")
    assert found == {"a": (3, 0.03, round(0.014 * 2**0.5, 9), True), "b": (3, 0.005, round(0.014 * 2**0.5, 9), False)}
    assert told.ask("row_name from screen_runs where not is_weighed") == [("screen1_row4",)]


def test_a_row_that_ended_without_the_metric_may_be_left_out_too(told: Told) -> None:
    told.seal(rule := screening(guard=0.0))
    screen(told, rule, (*VALUES[:3], None))
    told.run("screen1_row4", 5004, None)
    told.weights(2, LEFT, SOLVED)
    assert effects(told, "goes_on") == {"a": (True,), "b": (False,)}


@pytest.mark.parametrize("fourth", [VALUES[3], None])
def test_weights_may_leave_out_no_row_that_finished_or_will(told: Told, fourth: float | None) -> None:
    """They were sealed before the rows: whoever has seen those does not choose among them."""
    rule = told.seal(screening(guard=0.0))
    screen(told, rule, (*VALUES[:3], fourth))
    told.weights(2, LEFT, SOLVED)
    assert told.ask("distinct solution from screen_runs") == [(1,)]
    assert effects(told, "round(effect, 9)")["a"] == (None if fourth is None else 0.027,)


def test_a_lever_that_can_no_longer_be_told_goes_on_by_another_screen(told: Told) -> None:
    rule = crashed_fourth(told)
    told.weights(2, LEFT, {"a": SOLVED["a"]})
    reason = "screen1: b can no longer be told from the other levers: confirm it in another screen"
    assert effects(told, "num_rows", "reason")["b"] == (0, reason)
    told.base()
    again = {"screen2_row1": (), "screen2_row2": ("b",)}
    told.screen(rule, again, {"b": [-1.0, 1.0]}, screen="screen2")
    told.run("screen2_row1", 5001, 0.40)
    told.run("screen2_row2", 5002, 0.38)
    told.controls(0.4, 0.4)
    rows = told.ask("lever, stage, decision from decisions order by lever")
    assert rows == [("a", "confirm", "undecided"), ("b", "confirm", "undecided")]


def test_a_second_screen_of_a_lever_is_no_second_draw(told: Told) -> None:
    """In the first a needs more than 0.0435, in the second, where b does nothing, it would go on."""
    rule = told.seal(screening())
    screen(told, rule)
    again = {"screen2_row1": (), "screen2_row2": ("a",)}
    told.screen(rule, again, {"a": [-1.0, 1.0], "new": [0.0, 0.0]}, screen="screen2", guard=0.0)
    told.run("screen2_row1", 5001, 0.40)
    told.run("screen2_row2", 5002, 0.30)
    ((stage, decision, reason),) = told.ask("stage, decision, reason from decisions where lever = 'a'")
    assert (stage, decision) == ("screen", "drop")
    assert reason == "screen1: 0.0270 better, needs more than 0.0435: not shown at this budget"
    assert told.ask("screen, is_first from screen_effects where lever = 'a' order by screen") == [
        ("screen1", True),
        ("screen2", False),
    ]


@pytest.fixture
def screened(told: Told) -> Told:
    """A rule that confirms levers of a screen, whose panel is 0.4 twice: a goes on, b does not."""
    rule = told.seal(screening(guard=0.5))
    told.base()
    told.controls(0.4, 0.4)
    screen(told, rule)
    return told


def decisions(told: Told) -> dict[str, tuple]:
    return {lever: tuple(row) for lever, *row in told.ask("lever, stage, last_seed, decision from decisions")}


def test_a_lever_that_went_on_owes_its_confirmation_before_it_has_any_run(screened: Told) -> None:
    assert decisions(screened) == {"a": ("confirm", 3, "undecided"), "b": ("screen", 0, "drop")}
    owed = screened.ask("lever, recipe_digest, seed, why, status from owed_runs order by seed")
    assert owed == [("a", "a-recipe", seed, "stage confirm", None) for seed in JUDGED]
    assert screened.ask("owed from verdicts order by lever") == [("a@2001, a@2002, a@2003",), ("",)]


def test_only_what_a_lever_does_alone_stacks_and_is_its_effect(screened: Told) -> None:
    """0.4 - 0.3919 is 0.0081, more than 0.008: the screen's 0.027 is not told."""
    screened.lever("a", 0.3919, 0.3919, 0.3919, first_seed=2001)
    ((decision, effect, reason),) = screened.ask("decision, effect, reason from decisions where lever = 'a'")
    assert (decision, effect) == ("stack", pytest.approx(0.0081))
    assert reason == (
        "screen1: 0.0270 better, more than 0.0109: goes on; "
        "confirm: 0.0081 better than the panel mean at 2001, 2002, 2003, more than 0.008: passed"
    )


def test_a_lever_that_is_not_confirmed_is_dropped(screened: Told) -> None:
    screened.lever("a", 0.392, 0.392, 0.392, first_seed=2001)
    assert decisions(screened)["a"] == ("confirm", 3, "drop")


def test_what_a_screen_did_not_send_on_does_not_stack_by_runs_of_its_own(screened: Told) -> None:
    screened.lever("b", 0.3, 0.3, 0.3, first_seed=2001)
    ((outcome, effect, improvement),) = screened.ask("outcome, effect, improvement from decisions where lever = 'b'")
    assert (outcome, effect, improvement) == ("drop", None, pytest.approx(0.002))


def test_a_guardrail_does_not_look_at_a_lever_that_is_still_in_its_screen(screened: Told) -> None:
    screened.ask("1")
    ((num_seeds, passes),) = screened.ask("num_seeds, passes from guardrail_results where lever = 'b'")
    assert (num_seeds, passes) == (0, None)


def test_a_lever_that_no_screen_had_waits_for_one_and_is_owed_nothing(screened: Told) -> None:
    screened.lever("new", 0.3, first_seed=2001)
    ((stage, decision, reason),) = screened.ask("stage, decision, reason from decisions where lever = 'new'")
    assert (stage, decision) == ("screen", "undecided")
    assert reason == "no screen has sent it on, as this rule asks: flowlab screen"
    assert screened.ask("distinct lever from owed_runs") == [("a",)]


def test_a_lever_whose_screen_is_not_finished_is_undecided(told: Told) -> None:
    rule = told.seal(screening())
    told.base()
    told.controls(0.4, 0.4)
    screen(told, rule, (*VALUES[:3], None))
    assert decisions(told) == {"a": ("screen", 0, "undecided"), "b": ("screen", 0, "undecided")}
    assert told.ask("* from owed_runs") == []


def test_rows_are_neither_levers_nor_exploratory(screened: Told) -> None:
    assert {lever for (lever,) in screened.ask("lever from judged_levers")} == {"a", "b"}
    assert screened.ask("* from exploratory_runs") == []


def test_a_rule_without_a_screen_asks_for_none(told: Told) -> None:
    """A screen under the rule `panel` shows effects; its levers begin with their own runs."""
    rule = told.seal(sealable(panel_rule()))
    told.base()
    told.controls(0.4, 0.4)
    screen(told, rule)
    told.lever("b", 0.37, 0.37)
    assert effects(told, "bar")["a"] == (0.010,)
    assert decisions(told) == {"b": ("stack", 2, "stack")}
    assert told.ask("* from owed_runs") == []


def test_a_screen_on_another_base_sends_nothing_on_here(screened: Told) -> None:
    screened.base("moved")
    screened.controls(0.4, 0.4, control="moved")
    screened.lever("a", 0.3, 0.3, 0.3, first_seed=2001, control="moved")
    rows = screened.ask("stage, decision from decisions where lever = 'a' order by stage")
    assert rows == [("confirm", "undecided"), ("screen", "undecided")]


def test_a_screen_in_another_evaluation_is_not_the_rule_s(told: Told) -> None:
    rule = told.seal(screening(guard=0.5))
    screen(told, rule, evaluation_id="another")
    assert decisions(told) == {}


def test_what_a_screen_sent_on_has_to_be_sent_on_again_for_the_rule_that_follows(screened: Told) -> None:
    """Its bars were chosen once the effects were seen. Under one without a screen a lever is judged as it was run."""
    screened.lever("a", 0.39, 0.39, 0.39, first_seed=2001)
    old = screening(guard=0.5)
    new = screened.amend(screening(guard=0.25, name="lower"), old)
    rows = screened.ask("lever, amended_outcome, outcome, stage, flipped from rejudged order by lever")
    assert rows == [("a", "stack", "undecided", "screen", True), ("b", "drop", "undecided", "screen", True)]
    screened.amend(preset_of_panel(), new)
    rows = screened.ask(f"lever, outcome from rejudged where amended_digest = '{new.digest()}' order by lever")
    assert rows == [("a", "undecided"), ("b", None)]


def preset_of_panel() -> Rule:
    return sealable(preset("panel", (1001, 1002), (1001, 1002)))
