"""`flowlab predict`: what a finished run predicts, as a table and as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowlab.cli.options import Device, DeviceOption, JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, out, print_json, say, table
from flowlab.core.errors import StudyError

if TYPE_CHECKING:
    from flowlab.lab.predictions import Predictions


def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or what no other id begins with.")],
    readout: Annotated[
        str, typer.Option("--readout", metavar="NAME", help="How the draws become one chunk; module:attr for your own.")
    ] = "meank",
    file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.parquet", help="Write one row per validation frame.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.html", help="Draw prediction against truth over time.")
    ] = None,
    step: Annotated[
        int | None, typer.Option("--step", metavar="N", help="The policy that was kept after N steps, not the last.")
    ] = None,
    study: StudyOption = None,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """What a finished run predicts on each validation frame, as a Parquet file (docs/predictions.md) and a picture."""
    _require_place("--out", file, ".parquet")
    _require_place("--plot", plot, ".html")
    if file is None and plot is None:
        raise StudyError("give --out FILE.parquet, --plot FILE.html or both: that is where predictions go.")
    found = open_study(study)

    from flowlab.lab.checkpoints import open_checkpoint
    from flowlab.lab.environment import choose_device
    from flowlab.lab.predictions import find_run, mean_l1, write_predictions
    from flowlab.lab.predictions import predict as predict_frames

    run_id = find_run(found, run)
    checkpoint = open_checkpoint(found, run_id, step, choose_device(device.value))
    made = predict_frames(checkpoint, readout, Bars())
    means = mean_l1(checkpoint, made)
    if file is not None:
        write_predictions(made, file)
    if plot is not None:
        _write_plot(made, plot)
    places = {"file": file, "plot": plot}
    if as_json:
        shown = {name: made.about[name] for name in ("run_id", "step", "policy_digest", "readout", "looks_at_truth")}
        print_json({**shown, **places, "rows": len(made), "l1": means})
        return
    channels = made.frames.channels
    rows = [[name, row[""], *(row[channel] for channel in channels)] for name, row in means.items()]
    bound = ": it looks at the truth, so this is a bound" if made.about["looks_at_truth"] else ""
    title = f"l1 of {run_id}, {made.about['readout']}{bound}"
    out().print(table(["slice", "all channels", *channels], rows, title))
    say(f"{len(made):,} frames: {', '.join(str(place) for place in places.values() if place is not None)}")


def _require_place(option: str, path: Path | None, ending: str) -> None:
    """Raises StudyError, before anything is computed, for a file that could not be written there."""
    if path is None:
        return
    if path.suffix.lower() != ending or path.is_dir():
        raise StudyError(f"{option} got {str(path)!r}, expected the name of a file that ends in {ending}.")
    if not path.parent.is_dir():
        raise StudyError(f"{option} got {str(path)!r}, and there is no folder {path.parent}. Make it, or name another.")


def _write_plot(made: "Predictions", path: Path) -> None:
    from flowlab.core.files import write_atomic
    from flowlab.evaluate.prediction_page import draw_predictions

    about = made.about
    told = f"run {about['run_id']} after {about['step']} steps, readout {about['readout']}"
    bound = " (it looks at the truth: a bound)" if about["looks_at_truth"] else ""
    write_atomic(path, draw_predictions(told + bound, made.frames, made.prediction).encode())
