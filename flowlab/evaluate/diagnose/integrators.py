"""How many evaluations of the decoder a draw needs, by solver."""

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import OVERALL
from flowlab.evaluate.diagnose.diagnosis import Diagnosis, Shown
from flowlab.evaluate.diagnose.plot import COLOURS, INK, Plot, around, grid, legend, sheet
from flowlab.evaluate.diagnose.subject import Subject

ASKS = "From how many evaluations of the decoder on does a draw no longer change?"
EVALUATIONS = (1, 2, 4, 8, 16, 32, 64)
PER_STEP = {"euler": 1, "midpoint": 2, "heun": 2, "ab2": 1}
"""Evaluations of one step; ab2 has one more, in its first."""
FINE = ("heun", 128)
DRAWS = 8
TOLERANCE = 0.01
"""A metric has settled where it differs from the fine one by this share of it at most, there and at all finer steps."""


class Setting(NamedTuple):
    """One way to solve, and what came of it."""

    solver: str
    steps: int
    evaluations: int
    distance: NDArray[np.float64]  # (A,) mean |draw - fine draw|
    l1: NDArray[np.float64]  # (A,) of the mean of the draws
    seconds: float  # for a thousand draws

    @property
    def readout(self) -> str:
        """Its name in metric rows: "heun-8" takes 8 steps of two evaluations each."""
        return f"{self.solver}-{self.steps}"


def integrators(subject: Subject, progress: Progress = SILENT) -> Diagnosis:
    """Each solver at 1 to 64 evaluations against heun/128, from the same noise. PolicyError for a regression."""
    subject.require_draws("integrators")
    fine, settings = sweep(subject, progress)
    enough = {solver: settled(settings, fine, subject, solver) for solver in PER_STEP}
    rows = rows_of(subject, fine, settings, enough)
    table = _table(subject, fine, settings)
    return Diagnosis("integrators", ASKS, _says(subject, enough), (table,), rows, (_picture(subject, fine, settings),))


def sweep(subject: Subject, progress: Progress = SILENT) -> tuple[Setting, list[Setting]]:
    """The fine setting, and all others in order of solver and evaluations."""
    num_draws = min(DRAWS, subject.settings.draws)
    wanted = [
        (solver, evaluations // per)
        for solver, per in PER_STEP.items()
        for evaluations in EVALUATIONS
        if evaluations >= per
    ]
    reference: NDArray[np.float32] | None = None
    found = []
    with progress.task("solve", len(wanted) + 1, "settings") as task:
        for solver, steps in (FINE, *wanted):
            begin = time.perf_counter()
            draws = subject.ask(solver=solver, solver_steps=steps, draws=num_draws)
            seconds = 1000 * (time.perf_counter() - begin) / (draws.shape[0] * draws.shape[1])
            reference = draws if reference is None else reference
            off = np.abs(subject.held(draws) - subject.held(reference)).mean(axis=(0, 1, 2))
            l1 = np.abs(subject.mean_of(draws) - subject.frames.truth).mean(axis=(0, 1))
            evaluations = steps * PER_STEP[solver] + (solver == "ab2")
            found.append(Setting(solver, steps, evaluations, off, l1, seconds))
            task.advance()
    return found[0], found[1:]


def settled(settings: list[Setting], fine: Setting, subject: Subject, solver: str) -> int | None:
    """From how many evaluations of a solver on its l1 stays within TOLERANCE of the fine one; None if it does not."""
    column, enough = subject.column, None
    for setting in reversed([one for one in settings if one.solver == solver]):
        if abs(setting.l1[column] - fine.l1[column]) > TOLERANCE * fine.l1[column]:
            break
        enough = setting.evaluations
    return enough


def rows_of(subject: Subject, fine: Setting, settings: list[Setting], enough: dict[str, int | None]) -> list[MetricRow]:
    """`solver_distance` and `solver_l1` of every setting, `enough_evaluations` of every solver that settles."""
    rows = []
    for setting in (fine, *settings):
        for metric, values in (("solver_distance", setting.distance), ("solver_l1", setting.l1)):
            rows.append(MetricRow(metric, "", OVERALL, setting.readout, float(values.mean())))
            rows += [
                MetricRow(metric, name, OVERALL, setting.readout, float(value))
                for name, value in zip(subject.channels, values, strict=True)
            ]
    rows += [
        MetricRow("enough_evaluations", subject.channel, OVERALL, solver, float(number))
        for solver, number in enough.items()
        if number is not None
    ]
    return rows


def _says(subject: Subject, enough: dict[str, int | None]) -> tuple[str, ...]:
    own = subject.settings
    used = own.solver_steps * PER_STEP[own.solver]
    told = ", ".join(
        f"{solver} from {number} evaluations on" if number else f"{solver} not up to {EVALUATIONS[-1]}"
        for solver, number in enough.items()
    )
    return (
        f"The l1 of {subject.channel} stays within {TOLERANCE:.0%} of that of {FINE[0]}/{FINE[1]}: {told}.",
        f"The run was evaluated by {own.solver}/{own.solver_steps}, which is {used} evaluations a draw.",
    )


def _table(subject: Subject, fine: Setting, settings: list[Setting]) -> Shown:
    column = subject.column
    shown = [
        [
            f"{one.solver}/{one.steps}",
            one.evaluations,
            float(one.distance[column]),
            float(one.l1[column]),
            one.seconds,
        ]
        for one in (*settings, fine)
    ]
    title = f"{subject.channel}, beside {FINE[0]}/{FINE[1]}; times are of this machine, and in no ledger"
    return Shown(title, ("solver", "evaluations", "distance", "l1", "s per 1000 draws"), shown)


def _picture(subject: Subject, fine: Setting, settings: list[Setting]) -> str:
    parts = legend(62, 18, [(solver, COLOURS[i], "") for i, solver in enumerate(PER_STEP)])
    column, names = subject.column, [(float(np.log2(n)), str(n)) for n in EVALUATIONS]
    values = {
        "distance to the fine draws, log10": [float(np.log10(max(one.distance[column], 1e-9))) for one in settings],
        "l1 of the mean of the draws": [float(one.l1[column]) for one in settings],
        "seconds for 1000 draws": [one.seconds for one in settings],
    }
    for (title, found), (left, top, width) in zip(values.items(), grid(3, 3, 240, top=30), strict=True):
        reach = [*found, float(fine.l1[column])] if title.startswith("l1") else found
        plot = Plot(left, top, width, 240, (-0.2, names[-1][0] + 0.2), around(reach, from_zero=title.startswith("sec")))
        plot.axes(title, "evaluations of the decoder", subject.channel if "sec" not in title else "", names)
        for index, solver in enumerate(PER_STEP):
            line = [
                (float(np.log2(one.evaluations)), value)
                for one, value in zip(settings, found, strict=True)
                if one.solver == solver
            ]
            plot.curve(line, COLOURS[index], 2)
            plot.dots(line, COLOURS[index], 3)
        if title.startswith("l1"):
            plot.level(float(fine.l1[column]), f"{FINE[0]}/{FINE[1]}", INK)
        parts += plot.parts
    return sheet(parts, 30 + 34 + 240 + 46)
