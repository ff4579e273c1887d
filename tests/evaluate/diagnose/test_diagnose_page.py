"""Pages that stand by themselves, and plots whose places can be reckoned."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from flowlab.evaluate.diagnose.diagnosis import Diagnosis, Shown, mean_rows
from flowlab.evaluate.diagnose.page import page
from flowlab.evaluate.diagnose.plot import Plot, around, sheet
from flowlab.evaluate.diagnose.subject import evenly, first_of_each


def test_a_page_is_one_file_with_names_as_they_are() -> None:
    shown = Shown("a <title>", ("who", "l1"), [["a&b", 0.5], ["c", None]])
    text = page(Diagnosis("fan", "Why?", ("1 < 2",), (shown,), [], (sheet([], 10),)), {"run": "<script>"})
    assert "&lt;script&gt;" in text and "<script" not in text
    assert "<td class=number>0.5000</td>" in text and "<td>a&amp;b</td>" in text and "<td class=number>-</td>" in text
    assert set(re.findall(r"https?://[^\"' ]*", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address


def test_a_plot_puts_values_where_they_belong() -> None:
    plot = Plot(10, 20, 100, 50, (0, 2), (-1, 1))
    assert (plot.x(1), plot.y(0), plot.y(1), plot.y(9)) == (60, 45, 20, 20)
    plot.axes("t", "x", "y")
    plot.curve([(0, 0), (1, 1)])
    plot.bar(1, 0.5, 0.5, "#000000")
    plot.arrow((0, 0), (1, 1), "#000000")
    plot.level(0.0, "zero")
    ElementTree.fromstring(sheet(plot.parts, 100))


@pytest.mark.parametrize("values", [[], [0.0], [3.0, 3.0], [float("nan")], [-1.0, 2.0]])
def test_a_range_is_never_empty(values: list[float]) -> None:
    low, high = around(values)
    assert low < high


def test_a_mean_is_told_per_channel_and_over_all() -> None:
    error = np.array([[0.1, 0.3], [0.3, 0.5]])
    rows = mean_rows("l1", error, {"overall": np.ones(2, bool), "none": np.zeros(2, bool)}, ("a", "b"), "meank")
    assert [(row.channel, row.slice) for row in rows] == [("", "overall"), ("a", "overall"), ("b", "overall")]
    assert [row.value for row in rows] == pytest.approx([0.3, 0.2, 0.4])


def test_rows_are_spread_evenly_or_are_the_first_of_each_drive() -> None:
    assert evenly(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly(9, 3).tolist() == [0, 4, 8]
    drive, now = np.array([0, 0, 0, 1, 1]), np.array([7, 5, 6, 1, 2])
    assert first_of_each(drive, now, 2).tolist() == [1, 2, 3, 4]
