"""`flowlab drives convert`: a study's recordings for other tools."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, out, print_json, say, table
from flowlab.core.errors import StoppedError, StudyError


class Format(StrEnum):
    lerobot = "lerobot"


def drives_convert(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The new folder; one that is there must be empty.")],
    to: Annotated[Format, typer.Option("--to", help="lerobot: a LeRobot v3.0 data set, images as PNG.")],
    drives: Annotated[
        str | None, typer.Option("--drives", metavar="A,B", help="These drives alone; without it, every one.")
    ] = None,
    height: Annotated[
        int | None,
        typer.Option("--image-height", min=1, max=16_384, help="Rows of an image; without it, as it was recorded."),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option("--image-width", min=1, max=16_384, help="Columns of an image; goes with --image-height."),
    ] = None,
    file_mb: Annotated[
        int, typer.Option("--file-mb", min=1, max=100_000, help="How large a file of data may get, in MB.")
    ] = 100,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write recordings as a data set that other tools read, and flowlab too: what is driven, images, real times."""
    from flowlab.lab.conversion import convert_drives

    del to  # there is one
    if (height is None) != (width is None):
        raise StudyError("--image-height and --image-width go together: give both, or neither.")
    found = open_study(study)
    size = None if height is None or width is None else (height, width)
    drive_ids = None if drives is None else [name.strip() for name in drives.split(",")]
    try:
        done = convert_drives(found, folder, drive_ids, size, file_mb, Bars())
    except KeyboardInterrupt:
        raise StoppedError(f"{folder} is not written: the same command begins it anew.") from None
    frames = sum(map(len, done.drives))
    if as_json:
        facts = {"folder": str(done.folder), "frames": frames, "fps": done.layout.fps, "drives": done.table}
        episodes = [{"drive_id": drive.drive_id, "frames": len(drive)} for drive in done.drives]
        print_json(facts | {"height": done.layout.height, "width": done.layout.width, "episodes": episodes})
        return
    rows = [[number, drive.drive_id, len(drive)] for number, drive in enumerate(done.drives)]
    out().print(table(["episode", "drive", "frames"], rows))
    size_told = f"{done.layout.height} x {done.layout.width}"
    say(f"wrote {done.folder}: {len(rows)} episodes, {frames:,} frames at {done.layout.fps:g} Hz, images {size_told}")
    say("a study reads it with:\n")
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in done.table.items()]
    out().print("\n".join(["[drives]", *lines]), soft_wrap=True)
