"""One run as a folder of weights and one JSON file, which is loaded without the study, its ledger or its caches."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from flowlab.core.digest import digest_files
from flowlab.core.errors import FlowlabError, PluginError, PolicyError, StudyError, told_by
from flowlab.core.files import sort_metadata, write_json_atomic
from flowlab.core.folders import require_free, whole_folder
from flowlab.core.types import ConditionSpec
from flowlab.core.vocabulary import CHANNEL_RANGES
from flowlab.encoder.drive_vit import DriveViT
from flowlab.encoder.huggingface import HuggingFaceEncoder, open_huggingface
from flowlab.encoder.model_folder import DOWNLOADED
from flowlab.lab.stitching import Exportable, describe_feed, require_own_encoder
from flowlab.policy.build import build_decoder, build_objective
from flowlab.policy.decoder import load_run_weights, run_weights
from flowlab.policy.foreign import ForeignDecoder
from flowlab.policy.objectives import FlowMatching, Regression
from flowlab.policy.space_json import space_from_json, space_to_json
from flowlab.policy.stitched import Stitched
from flowlab.study.huggingface import HuggingFaceSettings
from flowlab.study.recipe import Recipe

FORMAT, VERSION = "flowlab policy", 1
TOLD, POLICY, ENCODER, MODEL = "policy.json", "policy.safetensors", "encoder.safetensors", "model"


@dataclass(frozen=True)
class FolderExport:
    """A folder that was written: its files, and how large they are together."""

    path: Path
    files: tuple[str, ...]
    megabytes: float


def export_folder(exportable: Exportable, path: Path) -> FolderExport:
    """Write the run's policy to `path`, whole or not at all; an earlier export there makes way.

    Raises StudyError for a folder that is none of flowlab's, PluginError for a plug-in, which a folder cannot hold.
    """
    require_place(path)
    encoder = require_own_encoder(exportable)
    _require_own_policy(exportable)
    if not is_export(path):
        with whole_folder(path) as folder:
            _write(exportable, encoder, folder)
        return _measured(path)
    fresh, old = (path.with_name(f".{path.name}.{os.getpid()}.{what}") for what in ("new", "old"))
    with whole_folder(fresh) as folder:
        _write(exportable, encoder, folder)
    path.rename(old)
    fresh.rename(path)
    shutil.rmtree(old)
    return _measured(path)


def require_place(path: Path) -> None:
    """Raises StudyError, before anything is computed, for a folder that could not or should not be written."""
    if not path.absolute().parent.is_dir():
        raise StudyError(f"--to got {str(path)!r}, and there is no folder {path.absolute().parent}. Make it first.")
    if not is_export(path):
        require_free(path)


def is_export(path: Path) -> bool:
    """Whether flowlab has written this folder, and nothing else is in it."""
    try:
        told = json.loads((path / TOLD).read_text())
        names = {TOLD, *told["files"]} if told["format"] == FORMAT else set()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return {str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir()} <= names


def load_policy(path: Path | str) -> Stitched:
    """The policy in a folder that `flowlab export RUN --to FOLDER` has written, on the CPU, ready to be called.

    Raises PolicyError for a folder that is not what was written.
    """
    path = Path(path)
    told = _read_told(path)
    cpu = torch.device("cpu")
    try:
        recipe, spec = Recipe.model_validate(told["recipe"]), ConditionSpec.from_json(told["condition"])
        decoder = build_decoder(recipe.decoder, spec, told["slots"], len(told["model_channels"]), [0], cpu)
        load_run_weights(decoder, 0, safetensors.torch.load_file(path / POLICY))
        objective = build_objective([recipe], told["slots"], cpu)
        encoder = _load_encoder(path, told["encoder"])
        space, horizon = space_from_json(told["action_space"]), told["windows"]["horizon"]
        return Stitched(encoder, decoder, objective, space, told["tokens"], horizon, recipe.evaluation)
    except FlowlabError:
        raise
    except Exception as error:  # of pydantic, safetensors, torch: the file is of another version of flowlab
        raise PolicyError(f"{path} cannot be loaded: {told_by(error)}. Export the run anew.") from None


def _read_told(path: Path) -> dict[str, Any]:
    """What policy.json says, once every file that it names has the digest that it names."""
    try:
        told = json.loads((path / TOLD).read_text())
        if told["format"] != FORMAT or told["version"] != VERSION:
            raise ValueError(f"it is {told['format']!r} of version {told['version']}")
        for name, digest in told["files"].items():
            if digest_files([path / name]) != digest:
                raise ValueError(f"{name} is not what was written")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PolicyError(f"{path} is no policy that flowlab has exported: {told_by(error)}. Export it anew.") from None
    return told


def _load_encoder(path: Path, told: dict[str, Any]) -> DriveViT | HuggingFaceEncoder:
    if told["kind"] == "drive-vit":
        encoder = DriveViT.from_architecture(told)
        encoder.load_state_dict(safetensors.torch.load_file(path / ENCODER))
        return encoder.freeze()
    settings = HuggingFaceSettings.model_validate(told["settings"] | {"model": str(path.absolute() / MODEL)})
    with TemporaryDirectory() as root:  # where it may note what it has read: an export stays as it is
        over = open_huggingface(settings, Path(root), tuple(told["channels"]), told["has_waypoints"], told["history"])
    if over.window is not None:
        over.window.load_state_dict(safetensors.torch.load_file(path / ENCODER))
    return over.freeze()


def _require_own_policy(exportable: Exportable) -> None:
    kept = exportable.checkpoint.policy
    if isinstance(kept.decoder, ForeignDecoder) or type(kept.objective) not in (FlowMatching, Regression):
        recipe = kept.facts.recipe
        plugin = recipe.decoder.kind if isinstance(kept.decoder, ForeignDecoder) else recipe.objective.kind
        raise PluginError(
            f"run {kept.facts.run_id} was trained with the plug-in {plugin!r}, whose code no folder can hold. Its "
            f"weights are policy.safetensors in the run's folder"
        )


def _write(exportable: Exportable, encoder: DriveViT | HuggingFaceEncoder, folder: Path) -> None:
    checkpoint, kept = exportable.checkpoint, exportable.checkpoint.policy
    _save(folder / POLICY, run_weights(kept.decoder, 0))
    told_encoder = _write_encoder(encoder, folder)
    facts = kept.facts
    recipe = facts.recipe.model_copy(update={"evaluation": checkpoint.evaluation})
    ranges = {name: list(CHANNEL_RANGES[name]) for name in checkpoint.cache.channels if name in CHANNEL_RANGES}
    told = {
        "format": FORMAT,
        "version": VERSION,
        **checkpoint.whose,
        "recipe": recipe.to_json(),
        "encoder": told_encoder,
        "condition": facts.spec.to_json(),
        "tokens": checkpoint.tokens,
        "windows": exportable.windows.model_dump(mode="json"),
        "slots": facts.horizon,
        "channels": list(checkpoint.cache.channels),
        "ranges": ranges,
        "model_channels": list(facts.channels),
        "action_space": space_to_json(checkpoint.space),
        "feed": describe_feed(exportable),
        "files": {
            str(file.relative_to(folder)): digest_files([file]) for file in sorted(folder.rglob("*")) if file.is_file()
        },
    }
    write_json_atomic(folder / TOLD, told)


def _write_encoder(encoder: DriveViT | HuggingFaceEncoder, folder: Path) -> dict[str, Any]:
    """What it takes to build it again. Of one over a Hugging Face model the files of that model come along."""
    if isinstance(encoder, DriveViT):
        _save(folder / ENCODER, encoder.state_dict())
        return encoder.architecture() | {"digest": encoder.digest}
    if encoder.window is not None:
        _save(folder / ENCODER, encoder.window.state_dict())
    (folder / MODEL).mkdir()
    for pattern in DOWNLOADED:
        for file in sorted(encoder.image.folder.path.glob(pattern)):
            shutil.copyfile(file, folder / MODEL / file.name)
    settings = encoder.settings.model_copy(update={"model": MODEL}).model_dump(mode="json")
    return encoder.architecture() | {"settings": settings, "digest": encoder.digest}


def _save(path: Path, weights: Mapping[str, Tensor]) -> None:
    content = safetensors.torch.save({name: value.detach().cpu().contiguous() for name, value in weights.items()}, {})
    path.write_bytes(sort_metadata(content))


def _measured(path: Path) -> FolderExport:
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    names = tuple(str(file.relative_to(path)) for file in files)
    return FolderExport(path, names, sum(file.stat().st_size for file in files) / 1e6)
