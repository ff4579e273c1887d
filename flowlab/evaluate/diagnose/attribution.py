"""What of the condition the policy looks at: the error once a group of tokens says something of another frame."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.core.progress import SILENT, Progress
from flowlab.core.seeds import numpy_stream
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import OVERALL
from flowlab.evaluate.diagnose.diagnosis import Diagnosis, Shown, mean_rows, value_of
from flowlab.evaluate.diagnose.plot import BLUE, INK, Plot, around, grid, sheet
from flowlab.evaluate.diagnose.subject import Subject

ASKS = "Which tokens of the condition does the policy look at?"
PERMUTATIONS, SEED, DRAWS = 3, 0, 4
ALL = "all-tokens"
"""All groups exchanged at once: what the whole condition is worth."""


def attribution(subject: Subject, progress: Progress = SILENT) -> Diagnosis:
    """The change in error of the draws' mean as each group's tokens are exchanged across all N frames.

    Permutations are the same for every group, drawn from one seed, without a frame that keeps its own tokens; they go
    across drives. The draws are a few, from the same noise each time.
    """
    base = _errors(subject)
    rows: list[MetricRow] = mean_rows("attribution_l1", base, subject.masks, subject.channels, "meank")
    groups = [*(group.name for group in subject.spec.groups), ALL]
    orders = list(permutations(len(subject.frames)))
    with progress.task("ask with exchanged tokens", len(groups) * len(orders), "times") as task:
        for group in groups:
            changes = []
            for order in orders:
                changes.append(_errors(exchanged(subject, group, order)) - base)
                task.advance()
            rows += rows_of(subject, group, changes)
    table, picture = _table(subject, groups, rows), _picture(subject, groups, rows)
    return Diagnosis("attribution", ASKS, _says(subject, groups, rows), (table,), rows, (picture,))


def permutations(num: int) -> Iterator[NDArray[np.int64]]:
    """PERMUTATIONS of the rows 0 .. num - 1, always the same, each of one cycle, so that no row stays where it is."""
    for index in range(PERMUTATIONS):
        cycle = numpy_stream(SEED, "attribution", index).permutation(num)
        order = np.empty(num, np.int64)
        order[cycle] = np.roll(cycle, -1)
        yield order


def exchanged(subject: Subject, group: str, order: NDArray[np.int64]) -> Subject:
    """The subject whose tokens of `group`, or all of them, are those of the frames at `order`."""
    condition, source = subject.frames.condition.clone(), torch.from_numpy(order)
    start = 0
    for one in subject.spec.groups:
        end = start + one.num_tokens
        if group in (one.name, ALL):
            condition[:, start:end] = subject.frames.condition[source.to(condition.device), start:end]
        start = end
    return subject.with_condition(condition)


def rows_of(subject: Subject, group: str, changes: list[NDArray[np.float64]]) -> list[MetricRow]:
    """`attribution` and `attribution_sd` of a group, by slice and channel, of each permutation's changes (N, A)."""
    each = [mean_rows("attribution", change, subject.masks, subject.channels, group) for change in changes]
    values = np.array([[row.value for row in rows] for rows in each])
    found = []
    for row, mean, sd in zip(each[0], values.mean(axis=0), values.std(axis=0, ddof=1), strict=True):
        found += [row._replace(value=float(mean)), row._replace(metric="attribution_sd", value=float(sd))]
    return found


def _errors(subject: Subject) -> NDArray[np.float64]:
    """|mean of the draws - truth| over slots, (N, A)."""
    draws = subject.ask(draws=min(DRAWS, subject.settings.draws))
    return np.abs(subject.mean_of(draws) - subject.frames.truth).mean(axis=1)


def _says(subject: Subject, groups: list[str], rows: list[MetricRow]) -> tuple[str, ...]:
    told = []
    for channel, name in ((subject.channel, subject.channel), ("", "all channels")):
        base = value_of(rows, "attribution_l1", channel, OVERALL, "meank") or 0.0
        worth = {group: value_of(rows, "attribution", channel, OVERALL, group) or 0.0 for group in groups}
        most = max(groups[:-1], key=worth.__getitem__)
        told.append(
            f"{name}: with its own tokens the policy is {base:.4f} off, with all those of another frame "
            f"{worth[ALL]:+.4f}; of one group alone {most} counts most, {worth[most]:+.4f}."
        )
    return tuple(told)


def _table(subject: Subject, groups: list[str], rows: list[MetricRow]) -> Shown:
    shown = []
    for group in groups:
        for where in subject.masks:
            change, sd, overall = (
                value_of(rows, metric, channel, where, group)
                for metric, channel in (
                    ("attribution", subject.channel),
                    ("attribution_sd", subject.channel),
                    ("attribution", ""),
                )
            )
            shown.append([group, where, change, sd, overall])
    title = f"change of l1 as tokens are exchanged across {len(subject.frames):,} frames"
    return Shown(title, ("tokens", "slice", subject.channel, "sd", "all channels"), shown)


def _picture(subject: Subject, groups: list[str], rows: list[MetricRow]) -> str:
    """A plot for each slice: bars by group, each with the deviation over permutations."""
    slices = list(subject.masks)
    places = grid(len(slices), min(3, len(slices)), 220)
    parts: list[str] = []
    for where, (left, top, width) in zip(slices, places, strict=True):
        found = [
            [
                value_of(rows, metric, subject.channel, where, group) or 0.0
                for metric in ("attribution", "attribution_sd")
            ]
            for group in groups
        ]
        reach = around([edge for mean, sd in found for edge in (mean - sd, mean + sd)], from_zero=True)
        plot = Plot(left, top, width, 220, (-0.6, len(groups) - 0.4), reach)
        plot.axes(where, "", f"change of l1, {subject.channel}", [(float(i), group) for i, group in enumerate(groups)])
        for index, (mean, sd) in enumerate(found):
            plot.bar(index, mean, 0.6, BLUE)
            plot.curve([(index, mean - sd), (index, mean + sd)], INK, 1.5)
        plot.level(0.0)
        parts += plot.parts
    return sheet(parts, places[-1][1] + 220 + 36)
