"""What `climb` says, one seed at a time, and stages of one's own that stack at once; on numbers made for each bar."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowlab.study.rule import CLIMB_BARS, CLIMB_STACKS, Rule
from flowlab.study.settings import StageSettings
from tests.verdict.campaign import PRIMARY, preset, sealable
from tests.verdict.simulated import Simulated
from tests.verdict.told import Told

EIGHT = tuple(range(1001, 1009))
CLIMB = sealable(preset("climb", EIGHT, EIGHT[:6]))
PASSES_ALL_BEFORE = 0.0165  # more than every bar, and not more than any bar to stack at once before the sixth


def values_of(improvement: float, num_seeds: int) -> list[float]:
    """Runs against a panel of 0.4: of `PASSES_ALL_BEFORE` up to the last seed, where the mean is `improvement`."""
    last = num_seeds * improvement - (num_seeds - 1) * PASSES_ALL_BEFORE
    return [0.4 - x for x in [PASSES_ALL_BEFORE] * (num_seeds - 1) + [last]]


@pytest.fixture
def climbing(told: Told) -> Told:
    """`climb` in force on a base whose eight controls are all 0.4."""
    told.seal(CLIMB)
    told.base()
    told.controls(*[0.4] * 8)
    return told


def test_each_seed_of_climb_has_its_two_bars(climbing: Told) -> None:
    expected = {}
    for n, (bar, above) in enumerate(zip(CLIMB_BARS, CLIMB_STACKS, strict=True), start=1):
        climbing.lever(f"at-{n}", *values_of(bar, n))
        expected[f"at-{n}"] = (f"seed-{n}", "drop")
        climbing.lever(f"over-{n}", *values_of(bar + 1e-8, n))
        expected[f"over-{n}"] = (f"seed-{n + 1}", "undecided") if n < 6 else ("seed-6", "stack")
        if above is not None and n < 6:
            climbing.lever(f"most-{n}", *values_of(above, n))
            expected[f"most-{n}"] = (f"seed-{n + 1}", "undecided")
            climbing.lever(f"more-{n}", *values_of(above + 1e-8, n))
            expected[f"more-{n}"] = (f"seed-{n}", "stack")
    rows = climbing.ask("lever, stage, decision from decisions")
    assert {lever: tuple(row) for lever, *row in rows} == expected
    owed = climbing.ask("lever, seed, why from owed_runs")
    waiting = {lever: stage for lever, (stage, decision) in expected.items() if decision == "undecided"}
    assert {(lever, why) for lever, _, why in owed} == {(lever, f"stage {stage}") for lever, stage in waiting.items()}
    assert all(seed == 1000 + int(why.removeprefix("stage seed-")) for _, seed, why in owed), "the next seed only"
    assert len(owed) == len(waiting)


def test_one_seed_never_stacks_however_good(climbing: Told) -> None:
    climbing.lever("huge", 0.1)
    assert climbing.ask("stage, decision, effect from decisions") == [("seed-2", "undecided", None)]


def test_what_stacks_at_once_is_told_with_the_bar_that_it_exceeds_and_its_effect(climbing: Told) -> None:
    """0.4 - (0.36 + 0.35) / 2 is 0.045."""
    climbing.lever("good", 0.36, 0.35)
    ((reason, effect, is_last, last_seed),) = climbing.ask("reason, effect, is_last, last_seed from decisions")
    assert reason == (
        "seed-1: 0.0400 better than the panel mean at 1001, more than 0.012: passed; "
        "seed-2: 0.0450 better than the panel mean at 1001, 1002, more than 0.036: stacks"
    )
    assert (effect, is_last, last_seed) == (pytest.approx(0.045), True, 2)
    rows = climbing.ask("stage, bar, stack_above, passes, stacks from stage_results order by stage_position limit 3")
    assert rows == [
        ("seed-1", 0.012, None, True, False),
        ("seed-2", 0.012, 0.036, True, True),
        ("seed-3", 0.013, 0.028, None, False),
    ]


def test_a_lever_that_stacked_is_not_asked_again_by_later_seeds(climbing: Told) -> None:
    """Two seeds decided; a third that is bad, or crashed, was owed by nobody."""
    climbing.lever("bad-third", 0.36, 0.36, 0.9)
    climbing.lever("crashed-third", 0.36, 0.36)
    climbing.run("crashed-third", 1003, None, ending="crashed")
    assert set(climbing.ask("stage, decision from decisions")) == {("seed-2", "stack")}
    assert climbing.ask("* from owed_runs") == []


@pytest.mark.parametrize(("second", "decided"), [(0.1079, "stack"), (0.1081, "drop")])
def test_a_guardrail_looks_at_the_seeds_up_to_where_it_stacked(climbing: Told, second: float, decided: str) -> None:
    """(0.1001 + 0.1079) / 2 is 0.0040 over the panel's 0.1, the margin; a worse third seed is not looked at."""
    for seed, flat in ((1001, 0.1001), (1002, second), (1003, 0.9)):
        climbing.run("good", seed, 0.36, flat=flat)
    ((decision, reason),) = climbing.ask("decision, reason from decisions")
    assert decision == decided
    assert ("guardrail steering l1 flat_frame: 0.1041 against the panel's 0.1000, over" in reason) == (
        decided == "drop"
    )


def test_a_judged_seed_that_crashed_drops_its_lever(climbing: Told) -> None:
    climbing.run("unstable", 1001, 0.37)
    climbing.run("unstable", 1002, None, ending="crashed")
    ((stage, decision, reason),) = climbing.ask("stage, decision, reason from decisions")
    assert (stage, decision) == ("seed-2", "drop")
    assert reason.endswith("crashed at seed 1002, step 3")


def test_a_panel_that_is_not_complete_decides_nothing(told: Told) -> None:
    told.seal(CLIMB)
    told.base()
    told.controls(*[0.4] * 7)
    told.lever("good", 0.3, 0.3)
    ((decision, reason),) = told.ask("decision, reason from decisions")
    assert (decision, reason) == ("undecided", "seed-1: waits for the panel")
    assert told.ask("lever, seed, why from owed_runs") == [("control", 1008, "panel")]


def test_where_more_is_better_the_bars_turn_round(told: Told) -> None:
    """Correlations, whose panel is 0.6: 0.62 is 0.02 better, 0.64 and 0.64 are 0.04, 0.58 is worse."""
    primary = PRIMARY.model_copy(update={"direction": "higher"})
    told.seal(CLIMB.model_copy(update={"primary": primary}))
    told.controls(*[0.6] * 8)
    told.lever("some", 0.62)
    told.lever("good", 0.64, 0.64)
    told.lever("worse", 0.58)
    rows = told.ask("lever, stage, decision from decisions order by lever")
    assert rows == [("good", "seed-2", "stack"), ("some", "seed-2", "undecided"), ("worse", "seed-1", "drop")]


def test_what_is_no_number_does_not_stack_at_once(climbing: Told) -> None:
    climbing.lever("huge", 0.36, -1e71)
    assert climbing.ask("stage, decision from decisions") == [("seed-2", "drop")]


def own_rule(*stages: dict, **changes: object) -> Rule:
    usual = {"statistic": "panel", "num_seeds": 1, "bar": 0.01}
    made = [StageSettings(**usual | {"name": f"stage-{n}"} | of) for n, of in enumerate(stages, start=1)]
    rule = preset("panel", (1001, 1002), (1001, 1002, 1003))
    return sealable(rule.model_copy(update={"stages": tuple(made), **changes}))


def test_a_stage_in_panel_sd_stacks_by_that_measure_too(told: Told) -> None:
    """The panel is 0.41 and 0.39: mean 0.4, sd 0.014142; 2 of them are 0.0283 and 3 are 0.0424."""
    told.seal(own_rule({"bar": 2.0, "stack_above": 3.0, "bar_unit": "panel-sd"}, {"num_seeds": 2}))
    told.controls(0.41, 0.39)
    told.lever("some", 0.4 - 0.0424)
    told.lever("good", 0.4 - 0.0425)
    told.lever("less", 0.4 - 0.0282)
    rows = told.ask("lever, stage, decision from decisions order by lever")
    assert rows == [("good", "stage-1", "stack"), ("less", "stage-1", "drop"), ("some", "stage-2", "undecided")]
    ((reason,),) = told.ask("reason from decisions where lever = 'good'")
    assert reason.endswith("at 1001, more than 3 panel sd, 0.0424: stacks")


def test_a_paired_stage_may_stack_at_once(told: Told) -> None:
    """0.41 - 0.36 is 0.05 against its own control, 0.04 against the panel's mean."""
    told.seal(own_rule({"statistic": "paired", "stack_above": 0.045}, {"num_seeds": 2}))
    told.controls(0.41, 0.39)
    told.lever("good", 0.36)
    assert told.ask("stage, decision, round(effect, 9) from decisions") == [("stage-1", "stack", 0.05)]


def by_hand(improvements: list[int]) -> tuple[str, str]:
    """(stage, decision) of whole numbers of 1e-4, against bars that are whole numbers of them too."""
    for n, (bar, above) in enumerate(zip(CLIMB_BARS, CLIMB_STACKS, strict=True), start=1):
        total = sum(improvements[:n])
        if total <= n * round(bar * 10000):
            return f"seed-{n}", "drop"
        if above is not None and total > n * round(above * 10000):
            return f"seed-{n}", "stack"
    raise AssertionError("the sixth decides")


SIX = st.lists(st.integers(0, 50), min_size=6, max_size=6)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(SIX, st.integers(0, 20)), min_size=40, max_size=40))
def test_a_better_lever_is_never_dropped_where_a_worse_one_is_stacked(told: Told, drawn: list) -> None:
    """Each lever, and one that is better by the same amount at every seed; both also by whole numbers, by hand."""
    told.forget()
    told.seal(preset("climb", EIGHT, EIGHT[:6]))
    assert told.ask("name from rules") == [("climb",)]
    improvements = {}
    for number, (values, shift) in enumerate(drawn):
        improvements[f"{number}"] = [10 * value for value in values]
        improvements[f"{number}-better"] = [10 * (value + shift) for value in values]
    runs = {
        name: {seed: 0.4 - of / 10000 for seed, of in zip(EIGHT, values, strict=False)}
        for name, values in improvements.items()
    }
    rows = Simulated(told.connection).ask("decisions", {"control": dict.fromkeys(EIGHT, 0.4)} | runs)
    found = {row["lever"]: (row["stage"], row["decision"]) for row in rows}
    assert found == {name: by_hand(values) for name, values in improvements.items()}
    for number in range(len(drawn)):
        assert not (found[f"{number}"][1] == "stack" and found[f"{number}-better"][1] == "drop")
