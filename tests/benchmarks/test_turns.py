"""How the benchmarks measure: turns, medians, ratios."""

import json
from types import SimpleNamespace

import pytest
from turns import Laps, Row, Times, Told, in_turns, options, turns_of


def test_ways_take_turns_and_the_warm_up_is_not_counted():
    called = []
    taken = in_turns({name: lambda name=name: called.append(name) for name in "ab"}, turns=2)
    assert called == list("ababab")
    assert [len(times.wall_s) for times in taken.values()] == [2, 2]


def test_a_way_may_measure_itself():
    taken = in_turns({"a": lambda: Times([3.0, 5.0, 1.0], [2.0])}, turns=3)
    assert (taken["a"].wall, taken["a"].processor) == (3.0, 2.0)
    assert len(taken["a"].wall_s) == 3


def test_the_first_lap_is_not_counted():
    laps = Laps(first=1, last=3)
    for _ in range(4):
        laps.lap()
    assert list(laps.at) == [1, 3]
    laps.at = {1: (10.0, 1.0), 3: (16.0, 4.0)}
    assert laps.times() == Times([3.0], [1.5])
    assert laps.times(1 / 4) == Times([0.75], [0.375])


def test_rows_are_told_as_lines_of_json_with_their_ratios(tmp_path, capsys):
    asked = options("x").parse_args(["--json", "--out", str(tmp_path / "x.json")])
    told = Told("x", asked, "ms", 1000)
    told.row(Row("step", "demo", Times([0.5], [1.0]), plain=Times([1.0], [1.0]), note="so"))
    told.end()
    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert (row["ratio_wall"], row["ratio_processor"], row["ratio_checkpoints_wall"]) == (2.0, 1.0, None)
    assert json.loads((tmp_path / "x.json").read_text())["rows"][0]["flowlab"]["wall"] == 0.5


def test_its_table_is_at_most_100_columns_wide(tmp_path, capsys):
    told = Told("x", options("x").parse_args(["--out", str(tmp_path / "x.json")]), "ms", 1000)
    slow = Times([1234.5], [1234.5])
    told.row(Row("campaign of 8 runs", "published", Times([1.1], [1.1]), slow, slow))
    told.end()
    lines = capsys.readouterr().out.splitlines()
    assert any("1,234,500" in line for line in lines)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(("repeats", "quick", "turns"), [(None, False, 5), (None, True, 2), (3, True, 3)])
def test_repeats_are_five_unless_less_is_asked_for(repeats, quick, turns):
    assert turns_of(SimpleNamespace(repeats=repeats, quick=quick)) == turns
