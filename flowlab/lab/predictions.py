"""What a finished run predicts on its validation frames, one row per frame: docs/predictions.md has the columns."""

import importlib.metadata
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import DiskError
from flowlab.core.files import trouble, whole_file
from flowlab.core.plugins import Readout
from flowlab.core.progress import SILENT, Progress
from flowlab.core.vocabulary import CHANNEL_RANGES
from flowlab.evaluate.definitions import MetricDefinitions
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.guarded import looks_at_truth
from flowlab.evaluate.metrics import action_at
from flowlab.evaluate.places import Places
from flowlab.evaluate.readouts import build_readout
from flowlab.evaluate.slices import frame_masks
from flowlab.lab.banks import raw_draws
from flowlab.lab.bench import row_name
from flowlab.lab.checkpoints import Checkpoint, find_runs
from flowlab.lab.ranker_files import find_readout
from flowlab.lab.registered import read_registered
from flowlab.study.ranker import RANKER
from flowlab.study.slices import slices_for
from flowlab.study.study import Study

if TYPE_CHECKING:
    import pyarrow

KEY = "flowlab"
"""The file's metadata have all that is known of it under this key, as JSON."""
GROUP_ROWS = 8192
"""In one row group of a file: what is copied at once."""
COLUMNS: dict[str, tuple[tuple[str, ...], str]] = {
    "drive_id": ((), "none"),
    "frame_index": (("history",), "frame number of the drive"),
    "time_us": (("history",), "microseconds"),
    "truth": (("slot", "channel"), "raw action"),
    "prediction": (("slot", "channel"), "raw action"),
    "l1": (("channel",), "raw action"),
}
"""Each column's axes and unit."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """One chunk per validation frame of a run. Rows are in the order of drive_id, then frame_index."""

    frames: ValidationFrames
    prediction: NDArray[np.float32]  # (N, H, A) raw, as it is scored: clipped if the evaluation clips
    about: dict[str, Any]  # whose they are and how they were made, as plain JSON

    def __len__(self) -> int:
        return len(self.prediction)

    def __repr__(self) -> str:
        about = self.about
        return f"{len(self):,} predictions of run {about['run_id']} after {about['step']} steps, {about['readout']}"

    @cached_property
    def l1(self) -> NDArray[np.float64]:
        """|prediction - truth| (N, A), the mean over the slots of each frame: what the metric l1 is the mean of."""
        return np.abs(self.prediction.astype(np.float64) - self.frames.truth.astype(np.float64)).mean(axis=1)

    def table(self, rows: slice = slice(None)) -> "pyarrow.Table":
        """The rows as an Arrow table whose lists have a fixed length, with `about` in its metadata."""
        import pyarrow

        frames = self.frames
        columns = {
            "drive_id": pyarrow.array(frames.frame_drives[rows], pyarrow.string()),
            "frame_index": _fixed(frames.frame_index[rows]),
            "time_us": _fixed(frames.time_us[rows]),
            "truth": _fixed(frames.truth[rows]),
            "prediction": _fixed(self.prediction[rows]),
            "l1": _fixed(self.l1[rows]),
        }
        return pyarrow.table(columns, metadata={KEY: json.dumps(self.about)})


def _fixed(values: NDArray) -> "pyarrow.Array":
    """An array (N, ...) as N lists of fixed length, which hold such lists themselves where it has three axes."""
    import pyarrow

    made = pyarrow.array(np.ascontiguousarray(values).reshape(-1))
    for length in reversed(values.shape[1:]):
        made = pyarrow.FixedSizeListArray.from_arrays(made, length)
    return made


def predict(checkpoint: Checkpoint, readout: str, progress: Progress = SILENT) -> Predictions:
    """What `readout` makes of the run's draws, held within the actuators if the run's evaluation says so.

    Whether a readout looks at the truth is found out by giving it another one: then it is a bound, and `about` says so.
    Raises UnknownNameError or PluginError for a readout that is none, DivergedError for draws that are not finite.
    """
    frames, settings = checkpoint.frames(), checkpoint.evaluation
    chosen = choose_readout(checkpoint, readout)
    draws = raw_draws(checkpoint, settings, frames, progress)
    chunk = chosen(draws, frames)
    prediction = held(chunk, chosen.name, frames, settings.clip)
    is_a_bound = looks_at_truth(chosen, draws, frames, chunk)
    rank = np.argsort(np.argsort(frames.drive_ids))
    rows = np.lexsort((frames.now, rank[frames.drive]))
    about = _about(checkpoint, row_name(readout, chosen, is_a_bound), looks_at_truth=is_a_bound)
    return Predictions(frames.take(rows), prediction[rows], about)


def choose_readout(checkpoint: Checkpoint, name: str) -> Readout:
    """The readout of that name, as the run's evaluation has it."""
    if name.startswith(RANKER):
        return find_readout(checkpoint, name)
    return build_readout(name, checkpoint.selection, checkpoint.evaluation.clip)


def find_run(study: Study, name: str) -> str:
    """The run, or scoring of one, whose id is `name`; else the one run whose id begins so. Raises as `find_runs`."""
    record = read_registered(study.runs / name)
    if record is not None and record.get("run_id") == name:
        return name
    return find_runs(study, [name])[0]


def read_out(readout: Readout, draws: NDArray[np.float32], frames: ValidationFrames, clip: bool) -> NDArray[np.float32]:
    """The chunk (N, H, A) that is scored, from draws (N, K, H, A)."""
    return held(readout(draws, frames), readout.name, frames, clip)


def held(chunk: NDArray[np.float32], readout: str, frames: ValidationFrames, clip: bool) -> NDArray[np.float32]:
    """The chunk (N, H, A) as it is scored, clipped if the evaluation clips. Raises DivergedError if not finite."""
    places = Places(frames, MetricDefinitions({}, {}))
    return action_at(places, chunk, readout, clip).astype(np.float32)


def _about(checkpoint: Checkpoint, readout: str, looks_at_truth: bool) -> dict[str, Any]:
    record, cache = checkpoint.record, checkpoint.cache
    return {
        "content": "predictions",
        "flowlab": importlib.metadata.version("flowlab"),
        **{name: record[name] for name in ("study", "run_id", "lever", "seed", "replicate")},
        "step": checkpoint.policy.step,
        "policy_digest": checkpoint.policy_digest,
        "cache_id": cache.cache_id,
        "readout": readout,
        "looks_at_truth": looks_at_truth,
        "evaluation_id": record["evaluation_id"],
        "evaluation": record["evaluation"],
        "channels": list(cache.channels),
        "ranges": {name: list(CHANNEL_RANGES[name]) for name in cache.channels if name in CHANNEL_RANGES},
        "columns": {name: {"axes": list(axes), "unit": unit} for name, (axes, unit) in COLUMNS.items()},
    }


def mean_l1(checkpoint: Checkpoint, predictions: Predictions) -> dict[str, dict[str, float]]:
    """The metric l1 by frame slice and channel, "" for all channels; a slice without frames is left out."""
    channels = predictions.frames.channels
    slices = slices_for(checkpoint.study.file.slices, channels)
    found = {}
    for name, mask in frame_masks(predictions.frames.truth, channels, slices).items():
        if mask.any():
            means = predictions.l1[mask].mean(axis=0)
            found[name] = {"": float(means.mean()), **dict(zip(channels, means.tolist(), strict=True))}
    return found


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write them as a Parquet file, whole or not at all: one that is there makes way for it.

    Raises DiskError where the file system refuses it.
    """
    from pyarrow.parquet import ParquetWriter

    def rows(start: int) -> "pyarrow.Table":
        return predictions.table(slice(start, start + GROUP_ROWS))

    try:
        with (
            whole_file(path) as file,
            ParquetWriter(file, rows(0).schema, compression="zstd", use_dictionary=["drive_id"]) as writer,
        ):
            for start in range(0, len(predictions), GROUP_ROWS):
                writer.write_table(rows(start))
    except OSError as error:
        raise DiskError(trouble(OSError(error.errno, error.strerror or str(error)), path)) from None
