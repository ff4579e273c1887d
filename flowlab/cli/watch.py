"""`flowlab watch`: a page in the terminal that moves while runs train. It reads, and never writes."""

import math
import re
import signal
import threading
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import Screen, figure, out, plain, print_json
from flowlab.cli.status import SILENT_S, clock
from flowlab.core.errors import BusyError, StudyError
from flowlab.study.study import CONTROL, Study

if TYPE_CHECKING:
    from flowlab.lab.live import LiveCohort, Recorded

BARS = "▁▂▃▄▅▆▇█"
WIDE = 110  # columns from which on there is room for more of a curve
STYLES = {"stack": "bold green", "drop": "dim", "undecided": "yellow", "running": "cyan", "crashed": "red"}
MOST_NAMED = 6  # in a line
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}


def watch(
    every: Annotated[str, typer.Option("--every", help="How often to look: 500ms, 2s, 1m.")] = "1s",
    once: Annotated[bool, typer.Option("--once", help="Look once, print it, and end.")] = False,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look on while runs train: cohorts with their loss, what is owed, verdicts as they fall. Writes nothing."""
    pause_s = parse_pause(every)
    found = open_study(study)
    console = out()
    if as_json:
        print_json(_as_json(*look(found)))
    elif once or not console.is_terminal:
        console.print(frame(found.name, *look(found), console.width))
    else:
        _follow(found, console, pause_s)


def _follow(study: Study, console: Screen, pause_s: float) -> None:
    """Until Ctrl-C, which waits for the look that is under way."""
    stopped = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    recorded = None
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while not stopped.is_set():
                cohorts, recorded = look(study, recorded)
                live.update(frame(study.name, cohorts, recorded, console.width, console.height), refresh=True)
                stopped.wait(pause_s)
    finally:
        signal.signal(signal.SIGINT, before)


def look(study: Study, before: "Recorded | None" = None) -> "tuple[list[LiveCohort], Recorded]":
    """Who trains now, and what the ledger has; what it had `before` where another process keeps it for itself."""
    from flowlab.lab.live import Recorded, read_cohorts, read_recorded

    try:
        recorded = read_recorded(study, before)
    except BusyError as error:
        recorded = before or Recorded(problem=str(error))
    return read_cohorts(study.runs), recorded


def frame(
    name: str, cohorts: "Sequence[LiveCohort]", recorded: "Recorded", width: int, height: int | None = None
) -> RenderableType:
    """One look at the study of that name as a page of that width; with a height, no longer than that."""
    wide = width >= WIDE
    parts: list[RenderableType] = [*_head(name, cohorts, recorded)]
    if cohorts:
        parts += [_title(f"training: {_count(cohorts)}"), _training(cohorts, 24 if wide else 12)]
    else:
        parts += [_title("training: nothing")]
    owed = recorded.answers["owed"]
    if owed:
        parts += [_title(f"queue: {len(owed)} owed"), *_queue(owed)]
    decisions = recorded.answers["decisions"]
    if decisions:
        used = 8 + len(cohorts) + len(parts)
        most = len(decisions) if height is None else max(3, height - used)
        parts += [_title("verdicts, the newest first"), _verdicts(decisions[:most], wide)]
    return Group(*parts)


def _head(name: str, cohorts: "Sequence[LiveCohort]", recorded: "Recorded") -> list[Text]:
    """Whose page it is: study, base and rule; the tree's phase; runs by state."""
    answers = recorded.answers
    first = name
    for base in answers["base"]:
        first += f"  base {' -> '.join([CONTROL, *base['stacked']])} {base['base_id'][:6]}"
    for rule in answers["rule"]:
        first += f"  rule {rule['rule']}"
    lines = [_line(first, "bold")]
    for phase in answers["phases"]:
        lines.append(_line(f"phase {phase['phase']} {phase['what']} {_hour(phase['time_us'])}: {phase['why']}"))
    states = {row["status"]: row["num"] for row in answers["states"]} | {"running": sum(map(_size, cohorts))}
    told = ", ".join(f"{num} {status}" for status, num in states.items() if num) or "no runs"
    return [*lines, _line(recorded.problem or f"{told}; the ledger as of {_hour(recorded.as_of_us)}", "dim")]


def _line(text: str, style: str = "") -> Text:
    """A line that is cut where the terminal ends."""
    return Text(plain(text), style, no_wrap=True, overflow="ellipsis")


def _size(cohort: "LiveCohort") -> int:
    return len(cohort.run_ids)


def _count(cohorts: "Sequence[LiveCohort]") -> str:
    runs = sum(map(_size, cohorts))
    return f"{runs} run{'s' * (runs > 1)} in {len(cohorts)} cohort{'s' * (len(cohorts) > 1)}"


def _title(text: str) -> Text:
    return Text(f"\n{text}", "bold")


def _training(cohorts: "Sequence[LiveCohort]", num_bars: int) -> Table:
    """A line for each cohort: who, how far, its loss, how fast, how long still."""
    from flowlab.lab.live import spread_over

    table = Table(box=None, pad_edge=False, expand=True, show_header=False)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for justify in ("left", "right", "left", "right", "right"):
        table.add_column(no_wrap=True, justify=justify)
    for cohort in cohorts:
        told = cohort.told
        step = f"{told.phase} {told.step}/{told.steps}"
        loss = "" if cohort.loss is None else figure(cohort.loss)
        rate = f"{told.rate:,.0f}/s" if told.rate is not None and told.rate >= 1 else ""
        if told.age_s > SILENT_S:
            left = Text(f"no sign for {clock(told.age_s)}", "red")
        else:
            left = Text("" if told.left_s is None else f"{clock(told.left_s)} left")
        curve = sparkline(spread_over(cohort.curve, num_bars))
        table.add_row(plain(name_runs(cohort.run_ids)), step, loss, Text(curve, "cyan"), rate, left)
    return table


def sparkline(values: Sequence[float]) -> str:
    """Bars from the least of `values` to the greatest; by their logarithms, where all are above 0."""
    if len(values) < 2:
        return ""
    heights = [math.log(value) for value in values] if min(values) > 0 else list(values)
    low, span = min(heights), max(heights) - min(heights)
    if span == 0:
        return BARS[0] * len(heights)
    return "".join(BARS[min(len(BARS) - 1, int((height - low) / span * len(BARS)))] for height in heights)


def name_runs(run_ids: Sequence[str]) -> str:
    """Runs by lever and seeds, as far as their ids tell: "control@1001,1002 delta-off@1001"."""
    by_lever: dict[str, list[str]] = {}
    for run_id in run_ids:
        found = re.fullmatch(r"(.+)-(\d+)-[0-9a-f]{8}(-.*)?", run_id)
        by_lever.setdefault(found[1] if found else run_id, []).extend([found[2]] if found else [])
    return " ".join(f"{lever}@{','.join(seeds)}" if seeds else lever for lever, seeds in by_lever.items())


def _queue(owed: Sequence[dict[str, Any]]) -> list[Text]:
    """What is owed, a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for row in owed:
        by_reason.setdefault(row["why"], []).append(f"{row['lever']}@{row['seed']}")
    lines = []
    for why, runs in by_reason.items():
        more = f" and {len(runs) - MOST_NAMED} more" if len(runs) > MOST_NAMED else ""
        told = f"{why} ({len(runs)}): {', '.join(runs[:MOST_NAMED])}{more}"
        lines.append(_line(told))
    return lines


def _verdicts(decisions: Sequence[dict[str, Any]], wide: bool) -> Table:
    """When each fell, of which lever, and why where there is room."""
    table = Table(box=None, pad_edge=False, expand=True, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=40 if wide else 28)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for row in decisions:
        effect = "" if row["effect"] is None else f"{row['effect']:+.4f}"
        decision = Text(row["decision"], STYLES.get(row["decision"], ""))
        reason = Text(plain(row["reason"]), "dim")
        table.add_row(_hour(row["time_us"]), plain(row["lever"]), decision, effect, reason)
    return table


def _hour(time_us: int) -> str:
    """A time of today as the clock says it, another with its day."""
    then = datetime.fromtimestamp(time_us / 1e6).astimezone()
    today = datetime.now().astimezone().date()
    return then.strftime("%H:%M:%S" if then.date() == today else "%b %d %H:%M")


def _as_json(cohorts: "Sequence[LiveCohort]", recorded: "Recorded") -> dict[str, Any]:
    training = [
        {"runs": list(cohort.run_ids), "loss": cohort.loss, "curve": cohort.curve, "left_s": cohort.told.left_s}
        | {name: value for name, value in asdict(cohort.told).items() if name not in ("losses", "loss", "cohort")}
        for cohort in cohorts
    ]
    told = {"training": training, "as_of_us": recorded.as_of_us, **recorded.answers}
    return told | ({"problem": recorded.problem} if recorded.problem else {})


def parse_pause(text: str) -> float:
    """Seconds from "500ms", "2s", "1m" or "2". Raises StudyError for anything else, and below a tenth of a second."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|)", text.strip())
    seconds = float(found[1]) * UNITS_S[found[2]] if found else 0.0
    if not 0.1 <= seconds <= 3600:
        raise StudyError(f"--every got {text!r}, expected a time from 100ms to 60m. Example: --every 2s")
    return seconds
