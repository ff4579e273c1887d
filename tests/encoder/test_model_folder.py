"""What is read of a model's folder before the model is opened, and which folders are refused."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from flowlab.core.errors import EncoderError, FlowlabError, MissingError
from flowlab.encoder.model_folder import ModelFolder, fetch_folder, open_folder
from flowlab.encoder.preparation import read_preparation
from flowlab.study.huggingface import HuggingFaceSettings
from tests.encoder.tiny_models import MEAN, STD, write_preprocessor

CONFIG = {"model_type": "dinov2", "patch_size": 14}


def write_model(folder: Path, config: dict[str, Any] = CONFIG, weights: bytes = b"weights") -> None:
    """A folder that looks like a model as long as nobody opens it."""
    write_preprocessor(folder, size={"height": 42, "width": 56})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(weights)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A study's folder with a model in models/tiny."""
    write_model(tmp_path / "models" / "tiny")
    return tmp_path


def refusal(root: Path, model: str = "models/tiny") -> str:
    """What is said of that model."""
    with pytest.raises(FlowlabError) as raised:
        open_folder(model, root)
    assert isinstance(raised.value, EncoderError | MissingError)
    return str(raised.value)


def identity(root: Path, model: str = "models/tiny", **given: Any) -> str:
    return open_folder(model, root).identity(HuggingFaceSettings(kind="huggingface", model=model, **given))


def test_a_relative_path_starts_at_the_studys_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert open_folder("models/tiny", root).path == root / "models" / "tiny"
    assert open_folder(str(root / "models" / "tiny"), Path("/")).path == root / "models" / "tiny"


def test_the_identity_is_that_of_the_content_and_not_of_the_place(root: Path) -> None:
    before = identity(root)
    shutil.move(root / "models" / "tiny", root / "elsewhere")
    assert identity(root, "elsewhere") == before


@pytest.mark.parametrize(
    "given",
    [{"layer": 1}, {"pool": "cls"}, {"pool": "patches", "image_grid": 2}, {"dtype": "float16"}, {"image_width": 28}],
)
def test_what_is_taken_of_the_model_is_part_of_its_identity(root: Path, given: dict[str, Any]) -> None:
    assert identity(root, **given) != identity(root)


def test_the_size_that_the_file_names_and_the_same_size_asked_for_are_one(root: Path) -> None:
    assert identity(root, image_height=42, image_width=56) == identity(root)


def test_the_temporal_part_is_no_part_of_the_models_identity(root: Path) -> None:
    assert identity(root, width=64, window_steps=5) == identity(root)


def test_other_weights_another_configuration_another_normalisation_are_other_models(root: Path) -> None:
    folder = root / "models" / "tiny"
    found = {identity(root)}
    (folder / "model.safetensors").write_bytes(b"weight2")
    found.add(identity(root))
    (folder / "config.json").write_text(json.dumps(CONFIG | {"layer_norm_eps": 1e-5}))
    found.add(identity(root))
    write_preprocessor(folder, size={"height": 42, "width": 56}, image_mean=[0.5, 0.5, 0.5])
    found.add(identity(root))
    assert len(found) == 4


def test_who_saved_the_model_is_not_part_of_it(root: Path) -> None:
    before = identity(root)
    told = CONFIG | {"transformers_version": "4.56.0", "_name_or_path": "/home/me/x", "torch_dtype": "float16"}
    (root / "models" / "tiny" / "config.json").write_text(json.dumps(told))
    assert identity(root) == before


def test_weights_are_not_read_again_while_their_stamps_are_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identity(root)
    monkeypatch.setattr("flowlab.encoder.model_folder.digest_files", lambda _: pytest.fail("read once more"))
    assert identity(root) == before


def test_all_shards_are_part_of_the_identity(root: Path) -> None:
    before = identity(root)
    (root / "models" / "tiny" / "model-00002-of-00002.safetensors").write_bytes(b"more")
    assert identity(root) != before


def test_a_pickled_checkpoint_is_never_opened(root: Path, tmp_path: Path) -> None:
    folder, trap = root / "models" / "tiny", tmp_path / "was-run"
    (folder / "model.safetensors").unlink()
    torch.save(_Trap(trap), folder / "pytorch_model.bin")
    assert "has no weights as safetensors" in refusal(root)
    assert "it has pytorch_model.bin, a pickle, which may run any code when it is opened" in refusal(root)
    assert not trap.exists()


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["top", "inside"])
def test_a_model_with_code_of_its_own_is_refused(root: Path, place: str) -> None:
    code = {"auto_map": {"AutoModel": "modeling_mine.Mine"}}
    config = CONFIG | (code if place == "top" else {"vision_config": code})
    (root / "models" / "tiny" / "config.json").write_text(json.dumps(config))
    (root / "models" / "tiny" / "modeling_mine.py").write_text("raise SystemExit('was run')")
    assert "comes with code of its own (auto_map in its config.json), which flowlab does not run" in refusal(root)


def test_an_adapter_is_no_model(root: Path) -> None:
    (root / "models" / "tiny" / "adapter_config.json").write_text("{}")
    assert "is an adapter for another model" in refusal(root)


def test_a_folder_without_preprocessor_file_is_refused(root: Path) -> None:
    (root / "models" / "tiny" / "preprocessor_config.json").unlink()
    assert "has no preprocessor_config.json in " in refusal(root)
    assert "nobody can tell how its images were normalised" in refusal(root)


@pytest.mark.parametrize("value", [None, [0.5], ["a", "b", "c"], [0.5, 0.5, True]])
def test_a_preprocessor_file_without_a_mean_is_refused(root: Path, value: Any) -> None:
    write_preprocessor(root / "models" / "tiny", size=42, image_mean=value)
    assert f"has image_mean {value!r}, expected three numbers" in refusal(root)


def test_a_size_that_no_file_names_has_to_be_given(root: Path) -> None:
    write_preprocessor(root / "models" / "tiny", size={"longest_edge": 42})
    with pytest.raises(EncoderError, match=r"names no image size\. Set encoder\.image_height and encoder\.image_width"):
        identity(root)
    assert identity(root, image_height=28, image_width=42)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_torn_config_is_refused(root: Path, text: str) -> None:
    (root / "models" / "tiny" / "config.json").write_text(text)
    assert "config.json of model 'models/tiny' " in refusal(root)


def test_a_pointer_of_git_lfs_is_no_weights(root: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n"
    (root / "models" / "tiny" / "model.safetensors").write_bytes(pointer)
    assert "model.safetensors of model 'models/tiny' is a Git LFS pointer and holds no weights" in refusal(root)


def test_a_folder_that_is_not_there_and_no_name_of_the_hub_is_one_sentence(root: Path) -> None:
    assert refusal(root, "./gone") == f"model './gone' is not there: {root}/gone is no folder. Correct encoder.model."
    assert "is a file" in refusal(root, "models/tiny/config.json")
    assert f"{root} is no model in transformers' format: it has no config.json" in refusal(root, str(root))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache."""
    from huggingface_hub import constants, file_download

    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    assert file_download.constants is constants
    return folder


def put_into(hub: Path, name: str) -> Path:
    """A model in the Hugging Face cache, as a download leaves it."""
    repository = hub / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / "0123abcd"
    write_model(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd")
    return snapshot


def test_a_name_that_is_no_folder_is_looked_for_in_the_hubs_cache(root: Path, hub: Path) -> None:
    snapshot = put_into(hub, "somebody/tiny")
    assert open_folder("somebody/tiny", root).path == snapshot
    assert identity(root, "somebody/tiny") == identity(root), "the same files"


def test_a_model_that_is_nowhere_says_where_it_was_looked_for(root: Path, hub: Path) -> None:
    assert refusal(root, "somebody/gone") == (
        f"model 'somebody/gone' is not there: looked for the folder {root}/somebody/gone, and in the Hugging Face "
        f"cache {hub}. Correct encoder.model, or fetch it from the hub: flowlab cache build --download"
    )


class Hub:
    """Stands for the hub: counts downloads, and puts the model into the cache or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Path, fails: bool = False) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        self.cache, self.fails = cache, fails
        monkeypatch.setattr("huggingface_hub.snapshot_download", self.download)

    def download(self, name: str, allow_patterns: list[str]) -> None:
        self.asked.append((name, allow_patterns))
        if self.fails:
            raise OSError("no route to host")
        put_into(self.cache, name)


def test_a_download_fetches_what_is_missing_once_and_nothing_pickled(
    root: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Hub(monkeypatch, hub)
    fetch_folder("somebody/tiny", root)
    fetch_folder("somebody/tiny", root)
    fetch_folder("models/tiny", root)  # a folder
    ((name, patterns),) = there.asked
    assert name == "somebody/tiny"
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in patterns)
    assert isinstance(open_folder("somebody/tiny", root), ModelFolder)


def test_a_download_that_was_cut_off_goes_on(root: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Hub(monkeypatch, hub, fails=True)
    snapshot = put_into(hub, "somebody/tiny")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(MissingError, match="could not be downloaded from the Hugging Face hub: no route to host"):
        fetch_folder("somebody/tiny", root)
    assert len(there.asked) == 1


def test_without_the_hubs_library_a_name_is_one_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "huggingface_hub is not installed. Install it: pip install 'flowlab[hf]'" in refusal(root, "a/b")
    assert identity(root), "a folder needs no library to be named"


@pytest.mark.parametrize(
    ("table", "size"),
    [
        ({"size": {"height": 32, "width": 48}}, (32, 48)),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, (224, 224)),
        ({"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True}, (224, 224)),
        ({"size": 224, "crop_size": 192, "do_center_crop": False}, (224, 224)),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 224)),
        ({"size": None, "max_num_patches": 256, "patch_size": 16}, (256, 256)),
        ({"size": {"longest_edge": 9}}, None),
        ({"size": "large"}, None),
        ({}, None),
    ],
)
def test_the_size_is_that_of_the_crop_else_of_the_whole(
    tmp_path: Path, table: dict[str, Any], size: tuple[int, int] | None
) -> None:
    write_preprocessor(tmp_path, **table)
    assert read_preparation("x", tmp_path).size == size


def test_pixels_are_scaled_and_normalised_as_the_file_says(tmp_path: Path) -> None:
    """51 / 255 = 0.2; (0.2 - 0.5) / 0.2, (0.2 - 0.4) / 0.3, (0.2 - 0.3) / 0.4."""
    write_preprocessor(tmp_path)
    found = read_preparation("x", tmp_path)(torch.full((1, 2, 3, 3), 51, dtype=torch.uint8))
    assert found.shape == (1, 3, 2, 3)
    torch.testing.assert_close(found[0, :, 1, 2], torch.tensor([-1.5, -2 / 3, -0.25]))


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"do_normalize": False}, [0.2, 0.4, 0.6]),
        ({"do_normalize": False, "do_rescale": False}, [51.0, 102.0, 153.0]),
        ({"do_normalize": False, "rescale_factor": None}, [0.2, 0.4, 0.6]),
        ({"do_normalize": False, "do_flip_channel_order": True}, [0.6, 0.4, 0.2]),
    ],
)
def test_each_step_is_done_where_the_file_asks_for_it(tmp_path: Path, table: dict, expected: list[float]) -> None:
    write_preprocessor(tmp_path, **table)
    pixel = torch.tensor([51, 102, 153], dtype=torch.uint8).reshape(1, 1, 1, 3)
    torch.testing.assert_close(read_preparation("x", tmp_path)(pixel).flatten(), torch.tensor(expected))


def test_a_processor_file_may_hold_the_preprocessors_table(tmp_path: Path) -> None:
    table = {"image_processor": {"image_mean": MEAN, "image_std": STD, "size": 32}}
    (tmp_path / "processor_config.json").write_text(json.dumps(table))
    found = read_preparation("x", tmp_path)
    assert (found.mean, found.std, found.size, found.scale) == (tuple(MEAN), tuple(STD), (32, 32), 1 / 255)


def test_a_step_that_flowlab_does_not_know_is_refused(tmp_path: Path) -> None:
    write_preprocessor(tmp_path, rescale_offset=True)
    with pytest.raises(EncoderError, match="sets rescale_offset, which flowlab does not know how to do"):
        read_preparation("x", tmp_path)
