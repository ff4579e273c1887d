"""Trained encoders on disk: safetensors with architecture, pretraining summary and content digest beside the weights.

Of `drive-vit` all weights are there; of an encoder over a Hugging Face model those of the temporal part alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flowlab.core.digest import canonical_json, digest_json
from flowlab.core.errors import EncoderError, told_by
from flowlab.core.files import sort_metadata, write_atomic
from flowlab.core.plugins import Source
from flowlab.encoder.drive_vit import ARCHITECTURE_VERSION, DriveViT, digest_of
from flowlab.encoder.huggingface import HuggingFaceEncoder
from flowlab.encoder.pretrain import PRETRAINING_VERSION
from flowlab.study.huggingface import HUGGING_FACE, HuggingFaceSettings
from flowlab.study.settings import DriveViTSettings, WindowSettings


@dataclass(frozen=True)
class SavedEncoder:
    """A file of a trained encoder, read and found to be what was written."""

    path: Path
    digest: str
    architecture: dict[str, Any]
    summary: dict[str, Any]
    weights: dict[str, Tensor]


def encoder_id(
    settings: DriveViTSettings | HuggingFaceSettings,
    windows: WindowSettings,
    source: Source,
    train_ids: Sequence[str],
    model: str = "",
) -> str:
    """The name of the encoder that these inputs give: settings, windows, and the content of the train drives.

    `model` is the identity of the frozen model that it stands on, if any; where that lies is not asked.
    """
    return digest_json(
        {
            "settings": named_settings(settings, model),
            "windows": windows.model_dump(mode="json"),
            "channels": list(source.channels),
            "has_waypoints": source.has_waypoints,
            "drives": {drive_id: source.digest(drive_id) for drive_id in train_ids},
            "versions": [ARCHITECTURE_VERSION, PRETRAINING_VERSION],
        }
    )


def named_settings(settings: DriveViTSettings | HuggingFaceSettings, model: str) -> dict[str, Any]:
    """The settings as plain JSON for a name: with the identity of a frozen model in place of where it lies."""
    table = settings.model_dump(mode="json")
    return table | {"model": model} if isinstance(settings, HuggingFaceSettings) else table


def encoder_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def find_encoder(folder: Path, name: str) -> Path | None:
    """Where the encoder of that name lies, or None if it has not been trained."""
    path = encoder_path(folder, name)
    return path if path.is_file() else None


def save_encoder(encoder: DriveViT | HuggingFaceEncoder, folder: Path, name: str) -> Path:
    """Write what was trained of the encoder, whole or not at all, and return where."""
    metadata = {
        "architecture": canonical_json(encoder.architecture()),
        "summary": canonical_json(encoder.summary),
        "digest": encoder.digest,
    }
    trained = encoder.window if isinstance(encoder, HuggingFaceEncoder) else encoder
    assert trained is not None, "an encoder without a temporal part comes frozen"
    weights = {key: value.detach().cpu().contiguous() for key, value in trained.state_dict().items()}
    path = encoder_path(folder, name)
    write_atomic(path, sort_metadata(safetensors.torch.save(weights, metadata)))
    return path


def read_encoder(path: Path) -> SavedEncoder:
    """The file of an encoder at `path`. Raises EncoderError when it is not what was written.

    Its digest is taken from the file before anything is built of it: what does not fit is not tried.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        architecture, expected = json.loads(metadata["architecture"]), metadata["digest"]
        if not isinstance(architecture, dict):
            raise TypeError("its architecture is no table")
        found = digest_of(architecture, weights)
        summary = dict(json.loads(metadata["summary"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise _unreadable(path, _told(error)) from None
    if found != expected:
        raise _unreadable(path, f"its content is {found}, expected {expected}")
    return SavedEncoder(path, found, architecture, summary, weights)


def load_encoder(path: Path, device: torch.device | str = "cpu") -> DriveViT:
    """The frozen `drive-vit` at `path`. Raises EncoderError when the file is not what was written."""
    saved = read_encoder(path)
    try:
        encoder = DriveViT.from_architecture(saved.architecture)
        encoder.load_state_dict(saved.weights)
        encoder.freeze()
        encoder.summary = saved.summary
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise _unreadable(path, _told(error)) from None
    return encoder.to(device)


def load_temporal_part(path: Path, encoder: HuggingFaceEncoder) -> HuggingFaceEncoder:
    """`encoder` with the trained temporal part that lies at `path`, frozen.

    Raises EncoderError when the file is not what was written, or was trained on another model.
    """
    saved = read_encoder(path)
    if encoder.window is None or saved.architecture != encoder.architecture():
        raise EncoderError(
            f"{path.name} was trained on another model or with other settings than encoder {encoder.settings.model!r} "
            f"has now. Train it: flowlab encoder train"
        )
    try:
        encoder.window.load_state_dict(saved.weights)
    except RuntimeError as error:
        raise _unreadable(path, _told(error)) from None
    encoder.summary = saved.summary
    return encoder.freeze()


def prove_encoder(path: Path) -> None:
    """Raises EncoderError unless the file is what was written, and an encoder as far as it holds one."""
    if read_encoder(path).architecture.get("kind") != HUGGING_FACE:
        load_encoder(path)


def describe_encoder(encoder: DriveViT | HuggingFaceEncoder) -> dict[str, Any]:
    """What a frozen encoder is, and how its pretraining went beside knowing nothing."""
    facts: dict[str, Any] = {
        "digest": encoder.digest,
        "condition": str(encoder.spec),
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "image": f"{encoder.image_height} x {encoder.image_width}",
        "history": encoder.history,
    }
    if isinstance(encoder, HuggingFaceEncoder):
        facts |= encoder.describe_model()
        if encoder.window is None:
            return facts | {"pretraining": "none: it comes frozen"}
    return facts | {"pretraining": encoder.summary}


def _told(error: Exception) -> str:
    """What is wrong with the file, in one line."""
    if isinstance(error, KeyError):
        return f"it does not say its {error.args[0]}"
    return told_by(error)


def _unreadable(path: Path, why: str) -> EncoderError:
    return EncoderError(
        f"{path.name} is not a readable encoder: {why}. Remove it and train again: flowlab encoder train"
    )
