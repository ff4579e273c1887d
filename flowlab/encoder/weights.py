"""Frozen encoders on disk: safetensors with architecture, pretraining summary and content digest beside the weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from flowlab.core.digest import canonical_json, digest_json
from flowlab.core.errors import EncoderError, told_by
from flowlab.core.files import sort_metadata, write_atomic
from flowlab.core.plugins import Source
from flowlab.encoder.drive_vit import ARCHITECTURE_VERSION, DriveViT, digest_of
from flowlab.encoder.pretrain import PRETRAINING_VERSION
from flowlab.study.settings import DriveViTSettings, WindowSettings


def encoder_id(settings: DriveViTSettings, windows: WindowSettings, source: Source, train_ids: Sequence[str]) -> str:
    """The name of the encoder that these inputs give: settings, windows, and the content of the train drives."""
    return digest_json(
        {
            "settings": settings.model_dump(mode="json"),
            "windows": windows.model_dump(mode="json"),
            "channels": list(source.channels),
            "has_waypoints": source.has_waypoints,
            "drives": {drive_id: source.digest(drive_id) for drive_id in train_ids},
            "versions": [ARCHITECTURE_VERSION, PRETRAINING_VERSION],
        }
    )


def encoder_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def find_encoder(folder: Path, name: str) -> Path | None:
    """Where the encoder of that name lies, or None if it has not been trained."""
    path = encoder_path(folder, name)
    return path if path.is_file() else None


def save_encoder(encoder: DriveViT, folder: Path, name: str) -> Path:
    """Write the encoder, whole or not at all, and return where."""
    metadata = {
        "architecture": canonical_json(encoder.architecture()),
        "summary": canonical_json(encoder.summary),
        "digest": encoder.digest,
    }
    weights = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    path = encoder_path(folder, name)
    write_atomic(path, sort_metadata(safetensors.torch.save(weights, metadata)))
    return path


def load_encoder(path: Path, device: torch.device | str = "cpu") -> DriveViT:
    """The frozen encoder at `path`. Raises EncoderError when the file is not what was written.

    Its digest is taken from the file before anything is built of it: what does not fit is not tried.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        architecture, expected = json.loads(metadata["architecture"]), metadata["digest"]
        found = digest_of(architecture, weights)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise _unreadable(path, _told(error)) from None
    if found != expected:
        raise _unreadable(path, f"its content is {found}, expected {expected}")
    try:
        encoder = DriveViT(
            DriveViTSettings.model_validate(architecture["settings"]),
            tuple(architecture["channels"]),
            architecture["has_waypoints"],
            architecture["history"],
        )
        encoder.load_state_dict(weights)
        encoder.freeze()
        encoder.summary = dict(json.loads(metadata["summary"]))
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise _unreadable(path, _told(error)) from None
    return encoder.to(device)


def describe_encoder(path: Path) -> dict[str, Any]:
    """What the encoder at `path` is, and how its pretraining went beside knowing nothing."""
    encoder = load_encoder(path)
    return {
        "path": path.name,
        "digest": encoder.digest,
        "condition": str(encoder.spec),
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "image": f"{encoder.image_height} x {encoder.image_width}",
        "history": encoder.history,
        "pretraining": encoder.summary,
    }


def _told(error: Exception) -> str:
    """What is wrong with the file, in one line."""
    if isinstance(error, KeyError):
        return f"it does not say its {error.args[0]}"
    return told_by(error)


def _unreadable(path: Path, why: str) -> EncoderError:
    return EncoderError(
        f"{path.name} is not a readable encoder: {why}. Remove it and train again: flowlab encoder train"
    )
