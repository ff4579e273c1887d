"""`flowlab bench`: how much quicker flowlab is on this machine than the plain way."""

import signal
import sys
from typing import Annotated, Any

import typer

from flowlab.cli.options import JsonOption
from flowlab.cli.screen import out, print_json, say, table
from flowlab.core.errors import RunFailedError, StoppedError

COLUMNS = ("question", "size", "plain+ckpt", "plain", "flowlab", "ratio+ckpt", "ratio")


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="step, data, cache_load, panel, screen, campaign, build; else all."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The smallest size of each, in fewer turns.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure flowlab against the same in ordinary PyTorch, with and without activation checkpointing, here."""
    from flowlab.lab.against_plain import BENCHMARKS, choose, rows_of

    for ended in (signal.SIGTERM, signal.SIGHUP):  # as by Ctrl-C, nothing is left behind
        signal.signal(ended, lambda number, _: sys.exit(128 + number))
    found: list[dict[str, Any]] = []
    failed: list[RunFailedError] = []
    chosen = choose(names or [], quick)
    for one in chosen:
        for sentence in one.left_out:
            say(f"left out: {sentence}")
    try:
        for one in chosen:
            if not one.is_run:
                continue
            say(f"{one.name}: {BENCHMARKS[one.name].question} {', '.join(one.sizes)}".rstrip())
            try:
                for row in rows_of(one, quick):
                    found.append({"benchmark": one.name, **row})
            except RunFailedError as error:
                failed.append(error)
                say(f"warning: {error}")
    except KeyboardInterrupt:
        show(found, as_json)
        kept = "What was measured is shown above. " if found else ""
        raise StoppedError(f"{kept}A benchmark that was going on begins anew next time.") from None
    show(found, as_json)
    if failed:
        raise failed[0]


def show(found: list[dict[str, Any]], as_json: bool) -> None:
    """One line a question and size: medians of wall time, and how many times longer the plain way takes."""
    if as_json:
        print_json(found)
        return
    if not found:
        say("nothing was measured.")
        return
    screen = out()
    rows = [[row["question"], row["size"], *times(row), *ratios(row)] for row in found]
    screen.print(table(COLUMNS, rows, f"on {found[0]['device']}", right=COLUMNS[2:]))
    units = dict.fromkeys(f"{row['benchmark']}: {row['unit']}" for row in found)
    screen.print("; ".join(units))
    for row in found:
        if row["note"]:
            screen.print(f"{row['question']}, {row['size']}: {row['note']}")
    screen.print("ratio: plain / flowlab, wall time; +ckpt: blocks computed anew for gradients")


def times(row: dict[str, Any]) -> list[str]:
    """The medians of wall time, in the row's unit."""
    ways = (row[way] for way in ("plain_checkpoints", "plain", "flowlab"))
    return [three_digits(way["wall"] * row["scale"]) if way else "" for way in ways]


def three_digits(value: float) -> str:
    """Three digits, and all of them of a larger number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratios(row: dict[str, Any]) -> list[str]:
    """How many times longer the plain way takes."""
    found = (row[key] for key in ("ratio_checkpoints_wall", "ratio_wall"))
    return ["" if ratio is None else f"{ratio:.2f}" for ratio in found]
