"""What a cache was made from, opened again: its recordings and its frozen encoder, each proved to be the one."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.cache.cache import Cache
from flowlab.core.errors import CacheMismatchError, EncoderError, FlowlabError, MissingError
from flowlab.core.plugins import Encoder, Source
from flowlab.core.types import Drive
from flowlab.drives.source import open_source
from flowlab.encoder.weights import read_encoder
from flowlab.lab.encoder_kinds import is_trained_here, model_identity, open_frozen_encoder, open_trained_encoder
from flowlab.study.huggingface import HuggingFaceSettings
from flowlab.study.settings import Inputs
from flowlab.study.study import Study


@dataclass(frozen=True)
class Origin:
    """The source and the encoder of a cache. `who` encodes windows anew with them: the words of a refusal."""

    cache: Cache
    source: Source
    encoder: Encoder
    who: str
    instead: str

    def load(self, drive_id: str) -> Drive:
        """One drive as it was when the cache was built. Raises MissingError or CacheMismatchError for any other."""
        manifest = self.cache.attributes["identity"]["manifest"]
        try:
            drive = self.source.load(drive_id)
        except FlowlabError as error:
            raise MissingError(
                f"the recording of drive {drive_id!r}, which cache {self.cache.cache_id} was built from, cannot be "
                f"read ({str(error).rstrip('.')}), and {self.who} encodes its windows anew. Put it back{self.instead}."
            ) from None
        if self.source.digest(drive_id) != manifest.get(drive_id):
            raise self._changed(drive_id)
        return drive

    def rows_of(self, drive: Drive, frame_index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which rows of the drive those frames are."""
        rows = np.searchsorted(drive.frame_index, frame_index).clip(max=len(drive) - 1)
        if not np.array_equal(drive.frame_index[rows], frame_index):
            raise self._changed(drive.drive_id)
        return rows

    def _changed(self, drive_id: str) -> CacheMismatchError:
        return CacheMismatchError(
            f"the recording of drive {drive_id!r} is not the one that cache {self.cache.cache_id} was built from, and "
            f"{self.who} encodes its windows anew. Put the old one back{self.instead}."
        )


def open_origin(
    study: Study, cache: Cache, inputs: Inputs, device: torch.device, who: str, instead: str = ""
) -> Origin:
    """What `cache` was computed from, by the tables `inputs`. Nothing is recorded or trained.

    Raises a FlowlabError in one sentence for recordings that are gone, and for an encoder that is not there.
    """
    source = open_source(inputs.drives, study.root, inputs.split.blocks)
    return Origin(cache, source, _encoder_of(study, cache, inputs, source, device, who, instead), who, instead)


def _encoder_of(
    study: Study, cache: Cache, inputs: Inputs, source: Source, device: torch.device, who: str, instead: str
) -> Encoder:
    """The encoder whose digest the cache names: the study's own, wherever in caches/encoders, or a frozen one."""
    wanted: str = cache.attributes["identity"]["encoder"]
    inputs = _with_model_found(study, inputs)
    if is_trained_here(inputs.encoder):
        for path in sorted((study.caches / "encoders").glob("*.safetensors")):
            try:
                digest = read_encoder(path).digest
            except EncoderError:
                continue  # `flowlab cache verify` tells
            if digest == wanted:
                return open_trained_encoder(study, inputs, source, path, device)
        raise MissingError(
            f"the encoder {wanted} that made cache {cache.cache_id} is not in caches/encoders, and {who} encodes "
            f"windows anew. Put its file back{instead}."
        )
    frozen = open_frozen_encoder(study, inputs, source, device)
    if frozen.digest != wanted:
        raise CacheMismatchError(
            f"encoder {inputs.encoder.kind!r} has the digest {frozen.digest}, and cache {cache.cache_id} was made by "
            f"{wanted}. Restore its weights{instead}."
        )
    return frozen


def _with_model_found(study: Study, inputs: Inputs) -> Inputs:
    """The inputs with the folder of a Hugging Face model where it is now, if it is not where they have it."""
    settings, present = inputs.encoder, study.base.inputs.encoder
    if isinstance(settings, HuggingFaceSettings) and isinstance(present, HuggingFaceSettings):
        try:
            model_identity(settings, study.root)
        except MissingError:
            found = settings.model_copy(update={"model": present.model})
            return inputs.model_copy(update={"encoder": found})
    return inputs
