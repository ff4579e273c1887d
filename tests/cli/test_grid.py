"""A table where it fits; where it does not, its widest text is folded; where that is not enough, records."""

from io import StringIO

import pytest

from flowlab.cli.grid import Grid
from flowlab.cli.screen import Screen, table

ROW = ["delta-off", "1001: -0.0300, 1002: -0.0200, 1003: +0.0100", "0.3700"]
COLUMNS = ["lever", "pairs", "mean of all"]


def shown(grid: Grid, width: int) -> list[str]:
    screen = Screen(width=width, file=StringIO())
    screen.print(grid, crop=False)
    return screen.file.getvalue().splitlines()


def test_what_fits_is_a_table() -> None:
    assert shown(table(COLUMNS, [ROW]), 80) == [
        "lever      pairs                                        mean of all",
        "─" * 67,
        "delta-off  1001: -0.0300, 1002: -0.0200, 1003: +0.0100  0.3700",
        "",
    ]


def test_the_widest_column_is_folded_between_words_and_the_others_are_whole() -> None:
    assert shown(table(COLUMNS, [ROW]), 50) == [
        "lever      pairs                       mean of all",
        "─" * 50,
        "delta-off  1001: -0.0300, 1002:        0.3700",
        "           -0.0200, 1003: +0.0100",
        "",
    ]


def test_names_are_folded_before_rows_become_records() -> None:
    assert shown(table(COLUMNS, [ROW]), 44)[:2] == [
        "lever      pairs                      mean",
        "                                      of all",
    ]


def test_each_row_is_a_record_where_no_table_fits() -> None:
    assert shown(table(COLUMNS, [ROW, ROW]), 40) == [
        "-[ 1 ]----------------------------------",
        "lever:       delta-off",
        "pairs:       1001: -0.0300, 1002:",
        "             -0.0200, 1003: +0.0100",
        "mean of all: 0.3700",
        "-[ 2 ]----------------------------------",
        "lever:       delta-off",
        "pairs:       1001: -0.0300, 1002:",
        "             -0.0200, 1003: +0.0100",
        "mean of all: 0.3700",
        "",
    ]


def test_an_answer_is_never_folded_and_nothing_follows_it() -> None:
    grid = Grid(COLUMNS, [ROW], is_answer=True)
    assert len(shown(grid, 67)) == 3
    assert shown(grid, 66)[0].startswith("-[ 1 ]-")


@pytest.mark.parametrize("width", [1, 2, 10, 30])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    wide = ["車" * 20 if width > 1 else "x" * 20, "two words and more", "1"]
    assert all(
        Screen(width=width).measure(line).maximum <= max(width, 6) for line in shown(table(COLUMNS, [wide]), width)
    )


def test_numbers_stand_to_the_right() -> None:
    assert shown(table(["a", "number"], [["x", 7]]), 80)[2] == "x       7"
