"""What a policy sees through, opened again: recordings and the frozen encoder, proved to be those of its cache."""

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.core.errors import CacheMismatchError, EncoderError, FlowlabError, MissingError
from flowlab.core.plugins import Encoder, Source
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import Drive
from flowlab.drives.read_ahead import read_blocks
from flowlab.drives.source import open_source
from flowlab.encoder.weights import read_encoder
from flowlab.evaluate.diagnose.rollout import Eyes
from flowlab.evaluate.frames import ValidationFrames
from flowlab.lab.checkpoints import Checkpoint
from flowlab.lab.encoder_kinds import is_trained_here, model_identity, open_frozen_encoder, open_trained_encoder
from flowlab.study.huggingface import HuggingFaceSettings
from flowlab.study.settings import Inputs
from flowlab.study.versions import read_recorded


def open_eyes(checkpoint: Checkpoint, frames: ValidationFrames, progress: Progress = SILENT) -> Eyes:
    """The encoder of a run's cache, and the features of the recorded frames that these windows show.

    Nothing is recorded or trained. Raises a FlowlabError in one sentence for recordings that are gone or changed, and
    for an encoder that is not there.
    """
    inputs = inputs_of(checkpoint)
    source = open_source(inputs.drives, checkpoint.study.root, inputs.split.blocks)
    encoder = encoder_of(checkpoint, inputs, source)
    features, places, seen = [], np.zeros(frames.frame_index.shape, np.int64), 0
    drives = [(position, _load(checkpoint, source, frames.drive_ids[position])) for position in np.unique(frames.drive)]
    for position, drive in drives:
        own = frames.drive == position
        places[own] = seen + _rows_of(checkpoint, drive, frames.frame_index[own])
        seen += len(drive)
    shown = [drive for _, drive in drives]
    with (
        progress.task("encode frames", seen, "frames") as task,
        read_blocks(source, shown, encoder.image_height, encoder.image_width) as blocks,
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


def encoder_of(checkpoint: Checkpoint, inputs: Inputs, source: Source) -> Encoder:
    """The encoder whose digest the run's cache names: the study's own, wherever in caches/encoders, or a frozen one."""
    wanted: str = checkpoint.cache.attributes["identity"]["encoder"]
    study, inputs = checkpoint.study, _with_model_found(checkpoint, inputs)
    if is_trained_here(inputs.encoder):
        for path in sorted((study.caches / "encoders").glob("*.safetensors")):
            try:
                digest = read_encoder(path).digest
            except EncoderError:
                continue  # `flowlab cache verify` tells
            if digest == wanted:
                return open_trained_encoder(study, inputs, source, path, checkpoint.device)
        raise MissingError(
            f"the encoder {wanted} that made cache {checkpoint.cache.cache_id} is not in caches/encoders, and a "
            f"rollout encodes windows with another past. Put its file back, or ask for another diagnosis."
        )
    frozen = open_frozen_encoder(study, inputs, source, checkpoint.device)
    if frozen.digest != wanted:
        raise CacheMismatchError(
            f"encoder {inputs.encoder.kind!r} has the digest {frozen.digest}, and cache {checkpoint.cache.cache_id} "
            f"was made by {wanted}. Restore its weights, or ask for another diagnosis."
        )
    return frozen


def _with_model_found(checkpoint: Checkpoint, inputs: Inputs) -> Inputs:
    """The inputs with the folder of a Hugging Face model where it is now, if it is not where the run had it."""
    settings, present = inputs.encoder, checkpoint.study.base.inputs.encoder
    if isinstance(settings, HuggingFaceSettings) and isinstance(present, HuggingFaceSettings):
        try:
            model_identity(settings, checkpoint.study.root)
        except MissingError:
            found = settings.model_copy(update={"model": present.model})
            return inputs.model_copy(update={"encoder": found})
    return inputs


def _load(checkpoint: Checkpoint, source: Source, drive_id: str) -> Drive:
    """One drive as it was when the cache was built."""
    manifest = checkpoint.cache.attributes["identity"]["manifest"]
    try:
        drive = source.load(drive_id)
    except FlowlabError as error:
        raise MissingError(
            f"the recording of drive {drive_id!r}, which run {checkpoint.run_id} validates on, cannot be read "
            f"({error}) and a rollout looks at its images. Put it back, or ask for another diagnosis."
        ) from None
    if source.digest(drive_id) != manifest.get(drive_id):
        raise _changed(checkpoint, drive_id)
    return drive


def _rows_of(checkpoint: Checkpoint, drive: Drive, frame_index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which rows of the drive those frames are."""
    rows = np.searchsorted(drive.frame_index, frame_index).clip(max=len(drive) - 1)
    if not np.array_equal(drive.frame_index[rows], frame_index):
        raise _changed(checkpoint, drive.drive_id)
    return rows


def _changed(checkpoint: Checkpoint, drive_id: str) -> CacheMismatchError:
    return CacheMismatchError(
        f"the recording of drive {drive_id!r} is not the one that cache {checkpoint.cache.cache_id} was built from, "
        f"and a rollout looks at its images. Put the old one back, or ask for another diagnosis."
    )
