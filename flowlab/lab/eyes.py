"""What a policy sees through, opened again, so that it can be shown what it has made of the road itself."""

import numpy as np
import torch

from flowlab.core.progress import SILENT, Progress
from flowlab.drives.read_ahead import read_blocks
from flowlab.evaluate.diagnose.rollout import Eyes
from flowlab.evaluate.frames import ValidationFrames
from flowlab.lab.checkpoints import Checkpoint
from flowlab.lab.origins import open_origin
from flowlab.study.settings import Inputs
from flowlab.study.versions import read_recorded


def open_eyes(checkpoint: Checkpoint, frames: ValidationFrames, progress: Progress = SILENT) -> Eyes:
    """The encoder of a run's cache, and the features of the recorded frames that these windows show.

    Nothing is recorded or trained. Raises a FlowlabError in one sentence for recordings that are gone or changed, and
    for an encoder that is not there.
    """
    inputs, instead = inputs_of(checkpoint), ", or ask for another diagnosis"
    origin = open_origin(checkpoint.study, checkpoint.cache, inputs, checkpoint.device, "a rollout", instead)
    encoder = origin.encoder
    features, places, seen = [], np.zeros(frames.frame_index.shape, np.int64), 0
    drives = [(position, origin.load(frames.drive_ids[position])) for position in np.unique(frames.drive)]
    for position, drive in drives:
        own = frames.drive == position
        places[own] = seen + origin.rows_of(drive, frames.frame_index[own])
        seen += len(drive)
    shown = [drive for _, drive in drives]
    with (
        progress.task("encode frames", seen, "frames") as task,
        read_blocks(origin.source, shown, encoder.image_height, encoder.image_width) as blocks,
        torch.no_grad(),
    ):
        for block in blocks:
            features.append(encoder.encode_frames(torch.from_numpy(block.images).to(checkpoint.device)))
            task.advance(len(block.rows))
    places_there = torch.from_numpy(places).to(checkpoint.device)
    return Eyes(encoder, torch.cat(features), places_there, checkpoint.tokens)


def inputs_of(checkpoint: Checkpoint) -> Inputs:
    """What the run's cache was computed from: the tables that the run registered."""
    tables = read_recorded(checkpoint.record["recipe"])
    return Inputs.model_validate({name: tables[name] for name in Inputs.model_fields if name in tables})
