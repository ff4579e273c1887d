"""`flowlab loop`: a tree of experiments, until it is done or the budget is used up."""

import re
from typing import Annotated

import typer

from flowlab.cli import judge
from flowlab.cli.options import (
    AddressOption,
    Device,
    DeviceOption,
    Executor,
    ExecutorOption,
    JsonOption,
    StudyOption,
    open_study,
)
from flowlab.cli.runs import announce
from flowlab.cli.screen import Bars, out, print_json, say, table
from flowlab.core.errors import StudyError
from flowlab.study.study import Study

UNITS = {"h": 3600, "m": 60, "s": 1}


def loop(
    budget: Annotated[
        str | None, typer.Option(help="Begin no run that would end later than this from now: 2h, 90m, 1h30m.")
    ] = None,
    max_runs: Annotated[int | None, typer.Option(min=1, help="Train so many runs at most.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show how far the tree is and what would be run next.")
    ] = False,
    amend: Annotated[
        str | None, typer.Option(metavar="REASON", help="Put a changed tree on the record, in place of the old one.")
    ] = None,
    study: StudyOption = None,
    device: DeviceOption = Device.auto,
    executor: ExecutorOption = Executor.auto,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go through the study's tree, phase by phase: run what the rule owes, judge, stack, go on. Killed, it resumes."""
    budget_s = None if budget is None else parse_duration(budget)
    found = open_study(study)
    judge.ingest_all(found)
    if dry_run:
        from flowlab.lab.tree import why_refused

        if amend is not None:
            raise StudyError("--amend goes with a loop that begins, and --dry-run writes nothing: leave one out.")
        show_tree(found, as_json)
        refused = why_refused(found)
        if refused:
            say(f"note: flowlab loop would refuse to begin: {refused}")
        return

    import time

    from flowlab.cli.rule_screen import show_foretold
    from flowlab.lab.loop import Limits, run_loop
    from flowlab.lab.where import Where
    from flowlab.study.study import load_study

    until = None if budget_s is None else time.monotonic() + budget_s
    why = run_loop(
        found.root,
        Where.chosen(device.value, executor.value, address),
        Limits(until, max_runs),
        progress=Bars(),
        show=show_foretold,
        announce=announce,
        amend=amend,
    )
    say(f"the loop has ended: {why}")
    now = load_study(found.root)
    judge.ingest_all(now)
    if not as_json:
        judge.print_verdicts(now, [])
    show_tree(now, as_json)


def parse_duration(text: str) -> float:
    """Seconds from "2h", "90m", "1h30m" or "45s". Raises StudyError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise StudyError(f"--budget got {text!r}, expected hours, minutes or seconds. Example: --budget 1h30m")
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if not seconds:
        raise StudyError(f"--budget got {text!r}, in which nothing can run. Example: --budget 1h30m")
    return seconds


def show_tree(study: Study, as_json: bool) -> None:
    """How far each phase is, and what would be run next."""
    from flowlab.lab.agenda import read_agenda

    agenda = read_agenda(study)
    if as_json:
        print_json(agenda)
        return
    rows = [
        [phase["phase"], phase["state"], f"{phase['runs']} runs, {phase['minutes']:.1f} min", phase["told"]]
        for phase in agenda["phases"]
    ]
    out().print(table(["phase", "state", "spent", "levers, or why it ended"], rows, f"the tree of study {study.name}"))
    if agenda["next"]:
        say(f"next: {', '.join(agenda['next'])}")
