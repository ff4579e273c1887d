"""Which frozen encoder is the study's. Once trained it stays, whatever is recorded later, until another is asked for.

A line of the study's journal pins it by digest, for one set of encoder settings. Pretraining it anew for every new
recording would throw the campaign away: all caches and all runs would be others.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flowlab.core.digest import digest_json
from flowlab.core.errors import EncoderError, MissingError
from flowlab.core.locks import hold
from flowlab.core.plugins import Encoder, Source
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import Split
from flowlab.drives.source import open_source
from flowlab.encoder.drive_vit import ARCHITECTURE_VERSION
from flowlab.encoder.pretrain import PRETRAINING_VERSION, train_encoder, train_temporal_part
from flowlab.encoder.weights import (
    SavedEncoder,
    describe_encoder,
    encoder_id,
    find_encoder,
    named_settings,
    prove_encoder,
    read_encoder,
    save_encoder,
)
from flowlab.journal.lines import StudyJournal
from flowlab.lab.encoder_kinds import (
    frozen_digest,
    is_trained_here,
    model_identity,
    open_frozen_encoder,
    open_trained_encoder,
    open_untrained_encoder,
    require_no_plugin,
)
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.huggingface import HuggingFaceSettings
from flowlab.study.settings import DriveViTSettings, Inputs
from flowlab.study.study import Study

AGAIN = "flowlab encoder train --again"


@dataclass(frozen=True)
class Pin:
    """The encoder that the study has taken for some settings: its file, its digest, the drives that it was shown."""

    file_name: str
    digest: str
    train_drives: tuple[str, ...]


def encoder_key(settings: DriveViTSettings | HuggingFaceSettings, inputs: Inputs, source: Source, model: str) -> str:
    """What an encoder has to fit: its settings, the windows' shape, the channels, the blocks. Not the recordings.

    `model` is the identity of the frozen model that it stands on, if any.
    """
    blocks = inputs.split.blocks
    cut = {} if blocks is None else {"blocks": blocks.model_dump(mode="json")}  # other blocks of the same names
    return digest_json(
        cut
        | {
            "settings": named_settings(settings, model),
            "history": inputs.windows.history,
            "horizon": inputs.windows.horizon,
            "channels": list(source.channels),
            "has_waypoints": source.has_waypoints,
            "versions": [ARCHITECTURE_VERSION, PRETRAINING_VERSION],
        }
    )


def find_pin(study: Study, inputs: Inputs, source: Source) -> Pin | None:
    """The encoder that is pinned for these inputs; None if none is, or one comes frozen.

    Raises MissingError or EncoderError where a Hugging Face model that it stands on cannot be found or used.
    """
    settings = inputs.encoder
    if not isinstance(settings, DriveViTSettings | HuggingFaceSettings) or not is_trained_here(settings):
        return None
    if not study.ledger.exists():
        return None
    key = encoder_key(settings, inputs, source, model_identity(settings, study.root))
    question = """
        select file_name, encoder_digest, train_drives
        from encoders where encoder_key = ?
        order by entry desc limit 1"""
    for file_name, digest, drives in read(study.ledger, question, [key]).rows:
        return Pin(file_name, digest, tuple(drives))
    return None


def open_encoder(
    study: Study, inputs: Inputs, source: Source, split: Split, device: torch.device, progress: Progress = SILENT
) -> Encoder:
    """The frozen encoder for these inputs: the study's own, trained if need be, or one that comes frozen."""
    if not is_trained_here(inputs.encoder):
        return open_frozen_encoder(study, inputs, source, device)
    path = prepare_encoder(study, inputs, source, split, device, progress)
    return open_trained_encoder(study, inputs, source, path, device)


def what_changed_of_encoder(study: Study, inputs: Inputs, source: Source, pinned: str | None, built_by: str) -> str:
    """What is not as it was when a cache was built, in words, or "": it was `built_by` the encoder of that digest,
    which was `pinned` then if it is the study's own.
    """
    settings = inputs.encoder
    model = settings.model if isinstance(settings, HuggingFaceSettings) else None
    other_weights = (
        f"encoder {settings.kind!r} has other weights"
        if model is None
        else f"model {model!r} has other weights, or another config or preprocessor file"
    )
    try:
        if not is_trained_here(settings):
            return "" if frozen_digest(study, inputs, source) == built_by else other_weights
        pin = find_pin(study, inputs, source)
    except MissingError:
        if model is None:
            raise
        return ""  # a model that is gone: the cache is what is left of it
    if pin is None and model is not None and pinned is not None:
        return other_weights
    return f"the study's encoder is now {pin.digest}" if pin is not None and pin.digest != pinned else ""


def describe_study_encoder(study: Study, inputs: Inputs) -> dict[str, Any]:
    """What the encoder for these inputs is, and how its pretraining went, if it is pretrained.

    Raises MissingError if that has not been done, StudyError for a plug-in.
    """
    require_no_plugin(inputs.encoder)
    source, cpu = open_source(inputs.drives, study.root, inputs.split.blocks), torch.device("cpu")
    if not is_trained_here(inputs.encoder):
        return describe_encoder(open_frozen_encoder(study, inputs, source, cpu))
    pin = find_pin(study, inputs, source)
    if pin is None:
        raise MissingError("this study's encoder is not trained yet. Train it: flowlab encoder train")
    path = study.caches / "encoders" / pin.file_name
    return {"path": path.name} | describe_encoder(open_trained_encoder(study, inputs, source, path, cpu))


def prepare_encoder(
    study: Study,
    inputs: Inputs,
    source: Source,
    split: Split,
    device: torch.device,
    progress: Progress = SILENT,
    again: bool = False,
) -> Path:
    """Where the study's encoder for these inputs lies: the pinned one, else one pretrained on the train drives, pinned.

    `source` and `split` are those of the tables in experiments.toml, also for a lever's encoder: whichever lever comes
    first, it is shown the same drives. With `again`, one pretrained on the present train drives takes the place of the
    pinned one. Raises EncoderError if the pinned one's file is not what was pinned, or is gone for good.
    """
    assert is_trained_here(inputs.encoder), "it comes frozen, and is not trained here"
    ingest(study.ledger, study.runs, runs_too=False)
    folder = study.caches / "encoders"
    pin = find_pin(study, inputs, source)
    saved, fault = (None, "") if pin is None else _saved_or_fault(folder / pin.file_name)
    digest = "" if saved is None else saved.digest
    if pin is not None and not again:
        seen = _shown(pin.train_drives, () if saved is None else saved.summary.get("train_digests", ()), source, split)
        if seen:
            progress.say(
                f"the study's encoder {pin.digest} was pretrained on {', '.join(seen)}, which now validate: another "
                f"one takes its place"
            )
        elif not fault:
            _require_pinned(digest, pin)
            return folder / pin.file_name
        elif set(pin.train_drives) != set(split.train):
            raise _gone(pin, fault)
        else:
            progress.say(f"the study's encoder {pin.digest} {fault}: pretrained once more, as it was")
        fault = "" if seen else fault
    if pin is not None and digest != pin.digest:
        (folder / pin.file_name).unlink(missing_ok=True)  # whatever it is, nobody trained it here
    path = _trained(study, inputs, source, split, device, progress)
    encoder = read_encoder(path)
    if pin is not None and fault and not again and encoder.digest != pin.digest:
        path.unlink()
        raise _gone(pin, fault)
    if pin is None or (pin.digest, pin.file_name) != (encoder.digest, path.name):
        _pin(study, inputs, source, encoder, split)
    return path


def _trained(
    study: Study, inputs: Inputs, source: Source, split: Split, device: torch.device, progress: Progress
) -> Path:
    """Where the encoder pretrained on exactly these train drives lies, trained unless that was done."""
    settings, windows, folder = inputs.encoder, inputs.windows, study.caches / "encoders"
    assert isinstance(settings, DriveViTSettings | HuggingFaceSettings)
    name = encoder_id(settings, windows, source, split.train, model_identity(settings, study.root))
    found = find_encoder(folder, name)
    if found is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    told = f"waiting for another flowlab process, which pretrains encoder {name}"
    with hold(folder / f"{name}.lock", tell=lambda: progress.say(told)):
        found = find_encoder(folder, name)
        if found is not None:
            return found
        progress.say(f"pretraining the encoder on {len(split.train)} train drives")
        if isinstance(settings, HuggingFaceSettings):
            untrained = open_untrained_encoder(study, inputs, source, device)
            trained = train_temporal_part(untrained, source, split.train, windows, progress, device)
            return save_encoder(trained, folder, name)
        return save_encoder(train_encoder(source, split.train, settings, windows, progress, device), folder, name)


def _pin(study: Study, inputs: Inputs, source: Source, encoder: SavedEncoder, split: Split) -> None:
    settings = inputs.encoder
    assert isinstance(settings, DriveViTSettings | HuggingFaceSettings)
    with StudyJournal.of(study.runs) as journal:
        journal.encoder(
            encoder_key=encoder_key(settings, inputs, source, model_identity(settings, study.root)),
            encoder_digest=encoder.digest,
            file_name=encoder.path.name,
            train_drives=encoder.summary.get("train_drives", split.train),
            settings=settings.model_dump(mode="json"),
        )
    ingest(study.ledger, study.runs, runs_too=False)


def _saved_or_fault(path: Path) -> tuple[SavedEncoder | None, str]:
    """The encoder at `path`, or why it cannot be had: "is gone from ...", "is damaged ..."."""
    if not path.is_file():
        return None, f"is gone from {path.parent}"
    try:
        prove_encoder(path)
        return read_encoder(path), ""
    except EncoderError as error:
        return None, f"is damaged ({str(error).partition('. ')[0]})"


def _gone(pin: Pin, fault: str) -> EncoderError:
    return EncoderError(
        f"the study's encoder {pin.digest} ({pin.file_name}) {fault}, and pretraining does not bring it back: caches "
        f"and runs were made with it. Put the file back, or begin with another one: {AGAIN}"
    )


def _shown(train_drives: Collection[str], digests: Collection[str], source: Source, split: Split) -> list[str]:
    """The validation drives that an encoder was shown, by name or, under whatever name, by content.

    One that trains as well (scale overfit) may be.
    """
    validating = set(split.val) - set(split.train)
    return sorted(name for name in validating if name in train_drives or source.digest(name) in digests)


def _require_pinned(digest: str, pin: Pin) -> None:
    """Raises EncoderError if the pinned file holds another encoder, whose digest this is."""
    if digest != pin.digest:
        raise EncoderError(
            f"{pin.file_name} holds the encoder {digest}, and the study has pinned {pin.digest}: the file was "
            f"replaced. Put the old one back, or train another: {AGAIN}"
        )
