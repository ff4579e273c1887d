"""The page of predictions: what is drawn where, and that it needs nothing but itself."""

import json
import re

import numpy as np

from flowlab.evaluate.prediction_page import HEIGHT, draw_predictions
from tests.evaluate.made_frames import made_frames


def page(now: list[int], drive: list[int] | None = None) -> str:
    """Slot 1 of channel x is the frame's row in truth, and one more in prediction; slot 2 is far away."""
    truth = np.stack([np.arange(len(now)), np.full(len(now), 99)], axis=1)[..., None].astype(np.float32)
    frames = made_frames(truth, ["x"], now=now, drive=drive, drive_ids=("a<b", "c"))
    return draw_predictions("run r & co", frames, truth + 1)


def data(html: str) -> list[dict]:
    return [json.loads(text) for text in re.findall(r"<script type='application/json'>(.*?)</script>", html)]


def curves(html: str) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, point.split(","))) for point in points.split()]
        for points in re.findall(r'<polyline points="([^"]*)"', html)
    ]


def test_slot_1_is_drawn_over_the_time_of_now() -> None:
    html = page([0, 1, 2])
    (told,) = data(html)
    assert told["t"] == [0, 0.1, 0.2] and told["frame"] == [0, 1, 2]
    assert told["truth"] == [[0, 1, 2]] and told["prediction"] == [[1, 2, 3]]
    truth, prediction = curves(html)
    assert [x for x, _ in truth] == told["x"] == [0, 500, 1000]
    # 0 to 3 and a twentieth more at both ends is 3.3 on the axis: a step of 1 is HEIGHT / 3.3 up
    np.testing.assert_allclose(np.diff([y for _, y in truth]), -HEIGHT / 3.3, atol=0.11)
    np.testing.assert_allclose(np.subtract(truth, prediction)[:, 1], HEIGHT / 3.3, atol=0.11)
    assert "x, raw action; mean |error| 1.0000" in html


def test_a_gap_breaks_the_curves_and_takes_little_room() -> None:
    html = page([0, 1, 2, 1000, 1001, 1002])
    assert [len(points) for points in curves(html)] == [3, 3, 3, 3]
    assert html.count('stroke-dasharray="4 4"') == 1
    x = data(html)[0]["x"]
    assert round((x[3] - x[2]) / (x[1] - x[0]), 2) == 3  # however long it is


def test_each_drive_has_a_strip_and_is_in_the_choice() -> None:
    html = page([0, 1, 0, 1], drive=[1, 1, 0, 0])
    assert html.count("<section>") == 2 and "<option>a&lt;b</option><option>c</option>" in html
    assert [one["truth"] for one in data(html)] == [[[2, 3]], [[0, 1]]]


def test_a_drive_of_one_frame_is_drawn() -> None:
    assert [len(points) for points in curves(page([7]))] == [1, 1]


def test_nothing_is_fetched_and_names_are_text() -> None:
    html = page([0, 1])
    assert not re.search(r"https?:|//|src=|href=|@import|url\(", html.replace("http://www.w3.org/2000/svg", ""))
    assert "<h1>run r &amp; co</h1>" in html and "a<b" not in html


def test_it_has_a_legend_and_follows_the_colours_of_the_reader() -> None:
    html = page([0, 1])
    assert "prefers-color-scheme: dark" in html
    assert re.search(r"</span> truth .*</span> prediction", html, re.DOTALL)
