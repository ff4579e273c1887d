"""How an encoder of each kind is opened: flowlab's own, one over a Hugging Face model, a plug-in's."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from flowlab.core.errors import StudyError
from flowlab.core.plugins import Source, resolve
from flowlab.core.progress import SILENT, Progress
from flowlab.encoder.drive_vit import DriveViT
from flowlab.encoder.huggingface import HuggingFaceEncoder, digest_without_temporal, open_huggingface
from flowlab.encoder.model_folder import fetch_folder, open_folder
from flowlab.encoder.weights import load_encoder, load_temporal_part
from flowlab.study.huggingface import HuggingFaceSettings
from flowlab.study.settings import DriveViTSettings, EncoderSettings, Inputs
from flowlab.study.study import Study


def is_trained_here(settings: EncoderSettings) -> bool:
    """Whether such an encoder is pretrained on the study's drives, and pinned: a plug-in comes frozen."""
    return isinstance(settings, DriveViTSettings) or (isinstance(settings, HuggingFaceSettings) and settings.is_trained)


def require_no_plugin(settings: EncoderSettings) -> None:
    """Raises StudyError for a plug-in, of which flowlab knows nothing but that it is there."""
    if not isinstance(settings, DriveViTSettings | HuggingFaceSettings):
        raise StudyError(f"encoder {settings.kind!r} is a plug-in: it comes frozen, and is not trained here.")


def model_identity(settings: EncoderSettings, root: Path) -> str:
    """What names the frozen Hugging Face model under the encoder: all that its tokens depend on, and not its folder.

    "" for another kind of encoder. Raises MissingError or EncoderError where the model cannot be found or used.
    """
    if not isinstance(settings, HuggingFaceSettings):
        return ""
    return open_folder(settings.model, root).identity(settings)


def open_trained_encoder(
    study: Study, inputs: Inputs, source: Source, path: Path, device: torch.device
) -> DriveViT | HuggingFaceEncoder:
    """The encoder that was trained for these inputs and lies at `path`."""
    if isinstance(inputs.encoder, HuggingFaceSettings):
        return load_temporal_part(path, open_untrained_encoder(study, inputs, source, device)).to(device)
    return load_encoder(path, device)


def open_frozen_encoder(study: Study, inputs: Inputs, source: Source, device: torch.device) -> Any:
    """The encoder for these inputs as it comes: of a plug-in, or a Hugging Face model with nothing on top."""
    if isinstance(inputs.encoder, HuggingFaceSettings):
        return open_untrained_encoder(study, inputs, source, device).freeze()
    return open_plugin_encoder(inputs, source).to(device)


def frozen_digest(study: Study, inputs: Inputs, source: Source) -> str:
    """The digest of an encoder that comes frozen; a Hugging Face model is not opened for it."""
    settings = inputs.encoder
    if isinstance(settings, HuggingFaceSettings):
        folder = open_folder(settings.model, study.root)
        channels = tuple(source.channels)
        return digest_without_temporal(settings, folder, channels, source.has_waypoints, inputs.windows.history)
    return open_plugin_encoder(inputs, source).digest


def fetch_models(study: Study, setups: Iterable[Inputs], progress: Progress = SILENT) -> None:
    """Download the Hugging Face models of these inputs that are not there, into the hub's cache.

    Raises StudyError where none of them has such an encoder, MissingError for one that cannot be had.
    """
    models = [inputs.encoder.model for inputs in setups if isinstance(inputs.encoder, HuggingFaceSettings)]
    if not models:
        raise StudyError("--download fetches the model of an encoder of kind 'huggingface', and there is none here.")
    for model in dict.fromkeys(models):
        fetch_folder(model, study.root, progress)


def open_untrained_encoder(study: Study, inputs: Inputs, source: Source, device: torch.device) -> HuggingFaceEncoder:
    """The encoder over the Hugging Face model of these inputs, with a temporal part that has learnt nothing, or none.

    Raises MissingError or EncoderError where the model cannot be found or used.
    """
    assert isinstance(inputs.encoder, HuggingFaceSettings)
    channels, history = tuple(source.channels), inputs.windows.history
    return open_huggingface(inputs.encoder, study.root, channels, source.has_waypoints, history, device)


def open_plugin_encoder(inputs: Inputs, source: Source) -> Any:
    """The encoder of a plug-in, an Encoder with torch's `to`, as it comes. Raises UnknownNameError."""
    build = resolve("encoders", inputs.encoder.kind)
    return build(inputs.encoder, source.channels, source.has_waypoints, inputs.windows.history)
