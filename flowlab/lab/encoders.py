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
from flowlab.core.errors import EncoderError
from flowlab.core.locks import hold
from flowlab.core.plugins import Encoder, Source, resolve
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import Split
from flowlab.encoder.drive_vit import ARCHITECTURE_VERSION, DriveViT
from flowlab.encoder.pretrain import PRETRAINING_VERSION, train_encoder
from flowlab.encoder.weights import encoder_id, find_encoder, load_encoder, save_encoder
from flowlab.journal.lines import StudyJournal
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.settings import DriveViTSettings, Inputs
from flowlab.study.study import Study

AGAIN = "flowlab encoder train --again"


@dataclass(frozen=True)
class Pin:
    """The encoder that the study has taken for some settings: its file, its digest, the drives that it was shown."""

    file_name: str
    digest: str
    train_drives: tuple[str, ...]


def encoder_key(settings: DriveViTSettings, inputs: Inputs, source: Source) -> str:
    """What an encoder has to fit: its settings, the windows' shape, the channels, the blocks. Not the recordings."""
    blocks = inputs.split.blocks
    cut = {} if blocks is None else {"blocks": blocks.model_dump(mode="json")}  # other blocks of the same names
    return digest_json(
        cut
        | {
            "settings": settings.model_dump(mode="json"),
            "history": inputs.windows.history,
            "horizon": inputs.windows.horizon,
            "channels": list(source.channels),
            "has_waypoints": source.has_waypoints,
            "versions": [ARCHITECTURE_VERSION, PRETRAINING_VERSION],
        }
    )


def find_pin(study: Study, inputs: Inputs, source: Source) -> Pin | None:
    """The encoder that is pinned for these inputs; None if none is, or a plug-in brings its own."""
    if not isinstance(inputs.encoder, DriveViTSettings) or not study.ledger.exists():
        return None
    question = """
        select file_name, encoder_digest, train_drives
        from encoders where encoder_key = ?
        order by entry desc limit 1"""
    for file_name, digest, drives in read(study.ledger, question, [encoder_key(inputs.encoder, inputs, source)]).rows:
        return Pin(file_name, digest, tuple(drives))
    return None


def open_encoder(
    study: Study, inputs: Inputs, source: Source, split: Split, device: torch.device, progress: Progress = SILENT
) -> Encoder:
    """The frozen encoder for these inputs: the study's own, trained if need be, or a plug-in, which comes frozen."""
    if isinstance(inputs.encoder, DriveViTSettings):
        return load_encoder(prepare_encoder(study, inputs, source, split, device, progress), device)
    return open_plugin_encoder(inputs, source).to(device)


def open_plugin_encoder(inputs: Inputs, source: Source) -> Any:
    """The encoder of a plug-in, an Encoder with torch's `to`, as it comes. Raises UnknownNameError."""
    build = resolve("encoders", inputs.encoder.kind)
    return build(inputs.encoder, source.channels, source.has_waypoints, inputs.windows.history)


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
    assert isinstance(inputs.encoder, DriveViTSettings), "a plug-in's encoder is not trained here"
    ingest(study.ledger, study.runs, runs_too=False)
    folder = study.caches / "encoders"
    pin = find_pin(study, inputs, source)
    digest, fault = ("", "") if pin is None else _digest_or_fault(folder / pin.file_name)
    if pin is not None and not again:
        seen = _shown(pin.train_drives, split)
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
    path = _trained(inputs, source, split, folder, device, progress)
    encoder = load_encoder(path)
    if pin is not None and fault and not again and encoder.digest != pin.digest:
        path.unlink()
        raise _gone(pin, fault)
    if pin is None or (pin.digest, pin.file_name) != (encoder.digest, path.name):
        _pin(study, encoder_key(inputs.encoder, inputs, source), path, encoder, split)
    return path


def _trained(
    inputs: Inputs, source: Source, split: Split, folder: Path, device: torch.device, progress: Progress
) -> Path:
    """Where the encoder pretrained on exactly these train drives lies, trained unless that was done."""
    settings, windows = inputs.encoder, inputs.windows
    assert isinstance(settings, DriveViTSettings)
    name = encoder_id(settings, windows, source, split.train)
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
        return save_encoder(train_encoder(source, split.train, settings, windows, progress, device), folder, name)


def _pin(study: Study, key: str, path: Path, encoder: DriveViT, split: Split) -> None:
    with StudyJournal.of(study.runs) as journal:
        journal.encoder(
            encoder_key=key,
            encoder_digest=encoder.digest,
            file_name=path.name,
            train_drives=encoder.summary.get("train_drives", split.train),
            settings=encoder.settings.model_dump(mode="json"),
        )
    ingest(study.ledger, study.runs, runs_too=False)


def _digest_or_fault(path: Path) -> tuple[str, str]:
    """The digest of the encoder at `path`, or why it cannot be had: "is gone from ...", "is damaged ..."."""
    if not path.is_file():
        return "", f"is gone from {path.parent}"
    try:
        return load_encoder(path).digest, ""
    except EncoderError as error:
        return "", f"is damaged ({str(error).partition('. ')[0]})"


def _gone(pin: Pin, fault: str) -> EncoderError:
    return EncoderError(
        f"the study's encoder {pin.digest} ({pin.file_name}) {fault}, and pretraining does not bring it back: caches "
        f"and runs were made with it. Put the file back, or begin with another one: {AGAIN}"
    )


def _shown(train_drives: Collection[str], split: Split) -> list[str]:
    """The validation drives that an encoder was shown; one that trains as well (scale overfit) may be."""
    return sorted(set(train_drives) & set(split.val) - set(split.train))


def _require_pinned(digest: str, pin: Pin) -> None:
    """Raises EncoderError if the pinned file holds another encoder, whose digest this is."""
    if digest != pin.digest:
        raise EncoderError(
            f"{pin.file_name} holds the encoder {digest}, and the study has pinned {pin.digest}: the file was "
            f"replaced. Put the old one back, or train another: {AGAIN}"
        )
