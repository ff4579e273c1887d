"""`flowlab diagnose`: one question to a finished run, answered by a table, metric rows and a picture."""

from enum import StrEnum
from pathlib import Path
from textwrap import fill
from typing import Annotated

import typer

from flowlab.cli.options import Device, DeviceOption, JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, out, print_json, say, table
from flowlab.core.errors import StudyError

COLUMNS = 80


class What(StrEnum):
    fan = "fan"
    horizon = "horizon"
    field = "field"
    integrators = "integrators"
    history = "history"
    rollout = "rollout"
    route = "route"
    rank = "rank"
    attribution = "attribution"


def diagnose(
    what: Annotated[What, typer.Argument(metavar="QUESTION", help="The question: docs/words.md has a table.")],
    run: Annotated[str, typer.Argument(metavar="RUN", help="A finished run, or what its id begins with.")],
    file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="Where to draw; without it, in the run's folder.")
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=2, help="Look at no more frames than these (rollout: of each drive); adds no numbers to the run."
        ),
    ] = None,
    study: StudyOption = None,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """Ask a finished run one question: a table, numbers in the ledger, and a picture."""
    if file is not None and file.suffix.lower() != ".html":
        raise StudyError(
            f"--out got {str(file)!r}, expected the name of an HTML file. Example: --out {what.value}.html"
        )
    if file is not None and not file.parent.is_dir():
        raise StudyError(
            f"--out got {str(file)!r}, and there is no folder {file.parent}. Make it, or name another one."
        )
    found = open_study(study)

    from flowlab.cli.judge import ingest_all
    from flowlab.lab.diagnoses import diagnose as ask
    from flowlab.lab.environment import choose_device

    done = ask(found, what.value, run, choose_device(device.value), most_frames=frames, picture=file, progress=Bars())
    if frames is None:
        ingest_all(found)
    if as_json:
        print_json({"run_id": done.run_id, "picture": str(done.picture)} | done.diagnosis.to_json())
        return
    screen = out()
    screen.print(f"{what.value} of {done.run_id}")
    for sentence in (done.diagnosis.asks, *done.diagnosis.says):
        screen.print(fill(sentence, COLUMNS))
    for shown in done.diagnosis.tables:
        screen.print(f"\n{fill(shown.title, COLUMNS)}")
        screen.print(table(shown.columns, shown.rows), end="")
    picture = done.picture.relative_to(found.root) if done.picture.is_relative_to(found.root) else done.picture
    kept = (
        "none: of some frames only" if frames is not None else f"{len(done.diagnosis.rows)}, {done.num_new} of them new"
    )
    say(f"numbers added to the run: {kept}; picture: {picture}")
