"""`flowlab report`: the campaign as one HTML file, or as a live page on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from flowlab.cli import judge
from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, print_json, say
from flowlab.core.errors import StudyError

PORT = 8327


def report(
    file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where it goes; without it, report.html in the study.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--serve", help="Instead: show it on this machine alone, anew as runs end, until Ctrl-C.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help=f"With --serve: where; {PORT} if not given, 0 is any."),
    ] = None,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """The whole campaign as one HTML file that needs nothing else: verdicts, metrics, runs, predictions, the rule."""
    if live and (file is not None or as_json):
        raise StudyError("--serve writes no file, so leave --out and --json out. Example: flowlab report --serve")
    if port is not None and not live:
        raise StudyError("--port goes with --serve: flowlab report --serve --port 8000")
    found = open_study(study)
    path = file or found.root / "report.html"
    if not live:
        from flowlab.report.page import require_place

        require_place(path)
    judge.ingest_all(found)
    if live:
        from flowlab.report.serve import serve

        serve(found, PORT if port is None else port, Bars(), lambda: judge.ingest_all(found))
        return

    from flowlab.report.page import write_report

    write_report(found, path, Bars())
    size = path.stat().st_size
    if as_json:
        print_json({"file": str(path), "bytes": size})
    else:
        say(f"{path}: {size / 1e6:.1f} MB. Open it in any browser, or send it: it holds all that it shows")
