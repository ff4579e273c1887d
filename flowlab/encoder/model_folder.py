"""The folder of a Hugging Face model, read without opening the model: where it is, what it holds, what names it.

Nothing here imports transformers or torch, and nothing touches the network unless a download is asked for. Weights are
taken from safetensors alone: to unpickle a checkpoint is to run whatever it says.
"""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowlab.core.digest import digest_bytes, digest_files, digest_json
from flowlab.core.errors import EncoderError, MissingError, told_by
from flowlab.core.files import LFS_POINTER, stamp_of
from flowlab.core.plugins import study_path
from flowlab.core.progress import SILENT, Progress
from flowlab.drives.memo import read_memo, settled_stamps, write_memo
from flowlab.encoder.preparation import Preparation, read_json, read_preparation
from flowlab.study.huggingface import HuggingFaceSettings

CONFIG, INDEX, ADAPTER = "config.json", "model.safetensors.index.json", "adapter_config.json"
DOWNLOADED = (CONFIG, "preprocessor_config.json", "processor_config.json", "model*.safetensors", INDEX)
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
NOT_OF_THE_MODEL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Keys of a config that say by what and as what it was saved, and nothing of the model."""
INSTALL = "Install it: pip install 'flowlab[hf]'"
VERSION = 1
"""Of how tokens are made of a model's output, and images of frames."""


@dataclass(frozen=True)
class ModelFolder:
    """What there is to know of a model before it is opened."""

    name: str  # as experiments.toml has it
    path: Path
    config: dict[str, Any]
    preparation: Preparation
    weights: str  # digest of its safetensors

    def identity(self, settings: HuggingFaceSettings) -> str:
        """16 hex digits over all that its tokens depend on; the folder's path is no part of it."""
        config = {key: value for key, value in self.config.items() if key not in NOT_OF_THE_MODEL}
        taken = settings.model_dump(mode="json", include={"layer", "pool", "image_grid", "dtype"})
        return digest_json(
            {
                "version": VERSION,
                "weights": self.weights,
                "config": digest_bytes(json.dumps(config, sort_keys=True).encode()),
                "preparation": self.preparation.to_json(),
                "size": list(self.size(settings)),
                "taken": taken,
            }
        )

    def size(self, settings: HuggingFaceSettings) -> tuple[int, int]:
        """Height and width of the images that the model is shown: as asked for, else as its preprocessor has them."""
        given, own = (settings.image_height, settings.image_width), self.preparation.size
        if None in given and own is None:
            raise EncoderError(
                f"the preprocessor file of model {self.name!r} names no image size. Set encoder.image_height and "
                f"encoder.image_width."
            )
        height, width = (asked or found for asked, found in zip(given, own or (0, 0), strict=True))
        return height, width


def open_folder(model: str, root: Path) -> ModelFolder:
    """The folder of `model`, read and checked; `root` is the study's.

    Raises MissingError where there is no such model, EncoderError where it cannot be used: code of its own, no
    safetensors, no preprocessor file.
    """
    path = find_folder(model, root)
    config = _read_config(model, path)
    return ModelFolder(model, path, config, read_preparation(model, path), _weights_digest(model, path, root))


def find_folder(model: str, root: Path) -> Path:
    """Where `model` lies: the folder of that name, from the study's on, else the hub's cache. Nothing is downloaded."""
    path = study_path(root, model)
    if path.is_dir():
        return path
    if path.exists():
        raise MissingError(f"encoder.model {model!r} is a file ({path}), expected the folder that holds it.")
    if not _may_be_on_the_hub(model):
        raise MissingError(f"model {model!r} is not there: {path} is no folder. Correct encoder.model.")
    found = _in_hub_cache(model)
    if found is None:
        raise MissingError(
            f"model {model!r} is not there: looked for the folder {path}, and in the Hugging Face cache "
            f"{_hub_cache()}. Correct encoder.model, or fetch it from the hub: flowlab cache build --download"
        )
    return found


def fetch_folder(model: str, root: Path, progress: Progress = SILENT) -> None:
    """Download `model` into the Hugging Face cache, unless it is there whole, or is a folder.

    Raises MissingError in one sentence for whatever the hub or the network says.
    """
    if study_path(root, model).exists() or not _may_be_on_the_hub(model):
        return
    found = _in_hub_cache(model)
    if found is not None and _is_whole(found):
        return
    import huggingface_hub

    progress.say(f"downloading model {model!r} into the Hugging Face cache {_hub_cache()}")
    bars_were_off = huggingface_hub.utils.are_progress_bars_disabled()
    huggingface_hub.utils.disable_progress_bars()
    try:
        huggingface_hub.snapshot_download(model, allow_patterns=list(DOWNLOADED))
    except Exception as error:  # the hub's, httpx's and the file system's each have their own
        raise MissingError(
            f"model {model!r} could not be downloaded from the Hugging Face hub: {told_by(error).rstrip('.')}. Check "
            f"its name, the network, and for a gated model that you are logged in: hf auth login"
        ) from None
    finally:
        if not bars_were_off:
            huggingface_hub.utils.enable_progress_bars()


def _may_be_on_the_hub(model: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)?", model) is not None


def _in_hub_cache(model: str) -> Path | None:
    """The folder of the model's newest files in the hub's cache; None where it has none."""
    try:
        import huggingface_hub
    except ImportError:
        raise MissingError(
            f"model {model!r} is no folder of the study, and the Hugging Face cache cannot be looked into: "
            f"huggingface_hub is not installed. {INSTALL}"
        ) from None
    with suppress(ValueError):  # a name that the hub does not allow
        found = huggingface_hub.try_to_load_from_cache(model, CONFIG)
        return Path(found).parent if isinstance(found, str) else None
    return None


def _hub_cache() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return str(HF_HUB_CACHE)


def _is_whole(path: Path) -> bool:
    """Whether all files of weights are there that the index names, or the only one."""
    try:
        shards = set(json.loads((path / INDEX).read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return any(path.glob("*.safetensors"))
    return all((path / str(name)).is_file() for name in shards)


def read_table(model: str, path: Path) -> dict[str, Any]:
    """A JSON file of a model's folder as a table. Raises EncoderError where it is none."""
    table = read_json(model, path)
    if not isinstance(table, dict):
        raise EncoderError(f"{path.name} of model {model!r} is no table. Fetch it anew.")
    return table


def _read_config(model: str, path: Path) -> dict[str, Any]:
    """Its config.json. Raises EncoderError for a folder that is no model, or one that brings code or pickles."""
    if (path / ADAPTER).is_file():
        raise EncoderError(
            f"model {model!r} is an adapter for another model ({ADAPTER} in {path}). Merge the two, save them as one "
            f"model, and name that in encoder.model."
        )
    if not (path / CONFIG).is_file():
        raise EncoderError(f"{path} is no model in transformers' format: it has no {CONFIG}. Correct encoder.model.")
    config = read_table(model, path / CONFIG)
    if _has_own_code(config):
        raise EncoderError(
            f"model {model!r} comes with code of its own (auto_map in its {CONFIG}), which flowlab does not run. Take "
            f"one that transformers knows by itself, or wrap it as an encoder of your own: docs/encoders.md"
        )
    if not any(path.glob("*.safetensors")):
        pickled = sorted(file.name for pattern in PICKLED for file in path.glob(pattern))
        has = f"it has {pickled[0]}, a pickle, which may run any code when it is opened" if pickled else "it has none"
        raise EncoderError(
            f"model {model!r} has no weights as safetensors in {path} ({has}). Open it where you trust it, and save it "
            f"with save_pretrained(folder, safe_serialization=True)."
        )
    return config


def _has_own_code(config: dict[str, Any]) -> bool:
    inner = [value for value in config.values() if isinstance(value, dict)]
    return any(table.get("auto_map") for table in (config, *inner))


def _weights_digest(model: str, path: Path, root: Path) -> str:
    """16 hex digits over the names and bytes of its safetensors; from their stamps if none has changed."""
    files = sorted(path.glob("*.safetensors"))
    memo = root / "caches" / "models" / f"{digest_json(str(path.resolve()))}.json"
    kept = read_memo(memo)
    if kept is not None and kept.get("files") == {file.name: stamp_of(file) for file in files}:
        return kept["weights"]
    stamps = settled_stamps(files)
    try:
        for file in files:
            with file.open("rb") as opened:
                if opened.read(len(LFS_POINTER)) == LFS_POINTER:
                    raise EncoderError(
                        f"{file.name} of model {model!r} is a Git LFS pointer and holds no weights. Fetch them: git "
                        f"lfs pull in {path}"
                    )
        digest = digest_files(files)
    except OSError as error:
        raise EncoderError(
            f"the weights of model {model!r} cannot be read: {told_by(error)}. Fetch them anew."
        ) from None
    write_memo(
        memo, {"files": {file.name: stamp for file, stamp in zip(files, stamps, strict=True)}, "weights": digest}
    )
    return digest
