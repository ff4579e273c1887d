"""What the policy makes of the past actions: the same policy without them."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import OVERALL, VARIANTS
from flowlab.evaluate.baselines import repeat_last
from flowlab.evaluate.diagnose.diagnosis import Diagnosis, Shown, mean_rows, value_of
from flowlab.evaluate.diagnose.plot import COLOURS, Plot, around, grid, legend, sheet
from flowlab.evaluate.diagnose.subject import Subject

ASKS = "How much does the policy rely on the actions before, and is it lost without them?"
NORMAL, WITHOUT = VARIANTS


def history(subject: Subject, without: Tensor, progress: Progress = SILENT) -> Diagnosis:
    """The mean of the draws under the normal condition and under `without` (N, S, D), the variant `no-history`."""
    chunks = {
        NORMAL: subject.mean_of(subject.ask(progress)),
        WITHOUT: subject.mean_of(subject.with_condition(without).ask(progress)),
    }
    rows = rows_of(subject, chunks[NORMAL], chunks[WITHOUT])
    return Diagnosis("history", ASKS, _says(subject, rows), (_table(subject, rows),), rows, (_picture(subject, rows),))


def rows_of(subject: Subject, normal: NDArray[np.float64], without: NDArray[np.float64]) -> list[MetricRow]:
    """`history_l1` of both, and `history_shift`, how far the prediction moves, each by slice and channel."""
    truth = subject.frames.truth
    rows = []
    for readout, chunk in ((NORMAL, normal), (WITHOUT, without)):
        rows += mean_rows("history_l1", np.abs(chunk - truth).mean(axis=1), subject.masks, subject.channels, readout)
    shift = np.abs(without - normal).mean(axis=1)
    rows += mean_rows("history_shift", shift, subject.masks, subject.channels, WITHOUT)
    held = np.abs(repeat_last(subject.frames) - truth).mean(axis=1)
    return rows + mean_rows("history_l1", held, subject.masks, subject.channels, "repeat-last")


def _says(subject: Subject, rows: list[MetricRow]) -> tuple[str, ...]:
    def at(metric: str, readout: str) -> float:
        return value_of(rows, metric, subject.channel, OVERALL, readout) or 0.0

    shift, normal, without = at("history_shift", WITHOUT), at("history_l1", NORMAL), at("history_l1", WITHOUT)
    return (
        f"Without the past actions the prediction of {subject.channel} moves by {shift:.4f} on average.",
        f"Its error goes from {normal:.4f} to {without:.4f}; holding the action of now is "
        f"{at('history_l1', 'repeat-last'):.4f} off.",
    )


def _table(subject: Subject, rows: list[MetricRow]) -> Shown:
    shown = []
    for name in subject.channels:
        for where, mask in subject.masks.items():
            normal, without = (value_of(rows, "history_l1", name, where, who) for who in (NORMAL, WITHOUT))
            assert normal is not None and without is not None
            shift = value_of(rows, "history_shift", name, where, WITHOUT)
            shown.append([name, where, int(mask.sum()), normal, without, without - normal, shift])
    columns = ("channel", "slice", "frames", "l1", "no history", "change", "moved by")
    return Shown("l1 of meank with and without the past actions", columns, shown)


def _picture(subject: Subject, rows: list[MetricRow]) -> str:
    """For each channel bars by slice: the error with and without, and how far the prediction moves."""
    shown = subject.channels[:6]
    bars = [
        ("history_l1", NORMAL, "l1"),
        ("history_l1", WITHOUT, "l1 without history"),
        ("history_shift", WITHOUT, "moved by"),
    ]
    parts = legend(62, 18, [(words, COLOURS[i], "") for i, (_, _, words) in enumerate(bars)])
    slices = list(subject.masks)
    places = grid(len(shown), min(3, len(shown)), 200, top=30)
    for name, (left, top, width) in zip(shown, places, strict=True):
        values = [[value_of(rows, m, name, where, who) or 0.0 for m, who, _ in bars] for where in slices]
        most = max(max(one) for one in values)
        plot = Plot(left, top, width, 200, (-0.5, len(slices) - 0.5), around([most], from_zero=True))
        plot.axes(name, "", "raw action", [(float(i), where) for i, where in enumerate(slices)])
        for index, one in enumerate(values):
            for place, value in enumerate(one):
                plot.bar(index + 0.26 * (place - 1), value, 0.24, COLOURS[place])
        parts += plot.parts
    return sheet(parts, places[-1][1] + 200 + 36)
