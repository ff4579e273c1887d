import json
from pathlib import Path

import pytest

from flowlab.core.errors import EncoderError
from flowlab.core.vocabulary import CHANNELS
from flowlab.encoder.drive_vit import DriveViT
from flowlab.encoder.weights import describe_encoder, encoder_id, find_encoder, load_encoder, save_encoder
from flowlab.study.settings import WindowSettings
from tests.encoder.memory_source import MemorySource, numbered_drive
from tests.encoder.tiny_encoder import TINY

WINDOWS = WindowSettings(history=3, horizon=2)


@pytest.fixture
def encoder() -> DriveViT:
    encoder = DriveViT(TINY, CHANNELS, True, 3)
    encoder.summary = {"final": {"chunk_nats": 1.5}}
    return encoder.freeze()


@pytest.fixture
def saved(encoder: DriveViT, tmp_path: Path) -> Path:
    return save_encoder(encoder, tmp_path / "encoders", "abc")


def test_what_is_loaded_is_what_was_saved(encoder: DriveViT, saved: Path):
    loaded = load_encoder(saved)
    assert loaded.digest == encoder.digest
    assert loaded.spec == encoder.spec
    assert loaded.summary == {"final": {"chunk_nats": 1.5}}


def test_an_encoder_is_found_by_its_name(saved: Path):
    assert find_encoder(saved.parent, "abc") == saved
    assert find_encoder(saved.parent, "abd") is None


def test_nothing_else_is_left_in_the_folder(saved: Path):
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("place", [-1, 2000, 20])
def test_one_flipped_byte_is_found(saved: Path, place: int):
    content = bytearray(saved.read_bytes())
    content[place] ^= 1
    saved.write_bytes(content)
    with pytest.raises(EncoderError, match="flowlab encoder train"):
        load_encoder(saved)


def test_what_a_library_says_of_a_file_stays_short(saved: Path):
    header = json.dumps({"x" * 100_000: 0}).encode()
    saved.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(EncoderError) as raised:
        load_encoder(saved)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_torn_file_is_found(saved: Path, size: int):
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(EncoderError, match="flowlab encoder train"):
        load_encoder(saved)


def test_the_description_names_the_condition(saved: Path, encoder: DriveViT):
    described = describe_encoder(load_encoder(saved))
    assert described["digest"] == encoder.digest
    assert described["condition"] == "12 tokens of width 16 (1 summary + 1 history + 10 waypoints)"


def test_the_name_depends_on_settings_windows_and_the_content_of_train_drives():
    source = MemorySource([numbered_drive("a", 30), numbered_drive("b", 30, seed=1)], forbidden=("c",))
    name = encoder_id(TINY, WINDOWS, source, ("a",))
    other_drive = MemorySource([numbered_drive("a", 30, seed=5)])
    others = {
        encoder_id(TINY.model_copy(update={"width": 32}), WINDOWS, source, ("a",)),
        encoder_id(TINY, WINDOWS.model_copy(update={"horizon": 4}), source, ("a",)),
        encoder_id(TINY, WINDOWS, source, ("a", "b")),
        encoder_id(TINY, WINDOWS, other_drive, ("a",)),
    }
    assert encoder_id(TINY, WINDOWS, source, ("a",)) == name
    assert name not in others and len(others) == 4
