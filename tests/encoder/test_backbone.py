"""What is refused of a model once it is opened: each in one sentence that says what to do."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from flowlab.core.errors import EncoderError, FlowlabError, MissingError
from flowlab.core.vocabulary import CHANNELS
from flowlab.encoder.huggingface import HuggingFaceEncoder, open_huggingface
from flowlab.study.huggingface import HuggingFaceSettings
from tests.encoder.tiny_models import save, transformers

KINDS = ("dinov2", "dinov3", "siglip", "vit", "vit-mae", "yolos", "convnextv2", "siglip2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of these kinds, each in a folder of its name."""
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        save(kind, folder / kind)
    return folder


def opened(folder: Path, model: str, history: int = 3, **given: Any) -> HuggingFaceEncoder:
    settings = HuggingFaceSettings(kind="huggingface", model=model, **{"temporal": "none"} | given)
    return open_huggingface(settings, folder, CHANNELS, True, history)


def refusal(folder: Path, model: str, **given: Any) -> str:
    with pytest.raises(FlowlabError) as raised:
        opened(folder, model, **given)
    assert isinstance(raised.value, EncoderError | MissingError)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_dinov2_never_sees_the_bottom_10_rows_and_the_right_6_columns_of_160_x_80(folder: Path) -> None:
    """80 = 5 x 14 + 10, 160 = 11 x 14 + 6."""
    assert refusal(folder, "dinov2", image_height=80, image_width=160) == (
        "model 'dinov2' never sees the last 10 rows and the last 6 columns of images of 80 x 160 (height x width): "
        "they fill no patch. Set encoder.image_height = 70 or 84 and encoder.image_width = 154 or 168."
    )
    assert opened(folder, "dinov2", image_height=84, image_width=154).image.layout.grid == (6, 11)


@pytest.mark.parametrize("pool", ["cls", "mean", "patches"])
@pytest.mark.parametrize("kind", ["dinov3", "vit"])
def test_whatever_is_taken_a_column_too_many_is_found(folder: Path, kind: str, pool: str) -> None:
    told = refusal(folder, kind, pool=pool, image_width=41)
    assert "never sees the last column of images of 32 x 41" in told
    assert told.endswith("Set encoder.image_width = 40 or 48.")


def test_a_convolution_drops_what_its_stride_leaves_over(folder: Path) -> None:
    told = refusal(folder, "convnextv2", image_height=66)
    assert "never sees the last 2 rows" in told
    assert told.endswith("Set encoder.image_height = 64 or 68.")


def test_packed_patches_are_whole_patches(folder: Path) -> None:
    assert "never sees the last 3 rows of images of 35 x 32" in refusal(folder, "siglip2", image_height=35)


def test_a_pool_that_the_model_does_not_have_is_told_with_those_that_it_has(folder: Path) -> None:
    assert refusal(folder, "siglip", pool="cls") == (
        "model 'siglip' has no tokens for encoder.pool 'cls': it has 4 x 4 patches of width 32. Set pool to 'mean' or "
        "'patches'."
    )
    assert "it has 1 class token + 4 x 4 patches of width 32" in refusal(folder, "vit", pool="registers")


def test_tokens_that_are_not_all_patches_behind_a_prefix_are_only_averaged(folder: Path) -> None:
    """YOLOS has 5 tokens behind its 16 patches."""
    assert "it has 22 tokens of no known grid of width 32. Set pool to 'mean'." in refusal(folder, "yolos", pool="cls")
    assert opened(folder, "yolos").image.layout.num_patches == 22


def test_a_layer_that_is_not_there(folder: Path) -> None:
    told = "model 'vit' has hidden states 0 to 2, and encoder.layer is 3."
    assert refusal(folder, "vit", layer=3) == told


def test_a_class_token_that_has_seen_nothing_yet(folder: Path) -> None:
    assert "of layer 0 of model 'vit' does not depend on the image" in refusal(folder, "vit", layer=0, pool="cls")


def test_a_grid_finer_than_the_patches(folder: Path) -> None:
    assert "encoder.image_grid 5 is finer than the 4 x 4 patches" in refusal(
        folder, "vit", pool="patches", image_grid=5
    )


def test_a_model_that_draws_at_random_in_eval_mode(folder: Path) -> None:
    assert "gives other tokens for the same image the second time" in refusal(folder, "vit-mae")


def test_condition_tokens_narrower_than_image_tokens(folder: Path) -> None:
    given = {"temporal": "transformer", "pool": "patches", "width": 16}
    assert "are 32 wide, and a condition token, which an image token becomes, is 16" in refusal(folder, "vit", **given)


def test_a_width_that_the_heads_do_not_divide(folder: Path) -> None:
    told = refusal(folder, "vit", temporal="transformer", heads=5)
    assert "are 32 wide, which is no multiple of twice the heads (5)" in told


def test_a_past_that_does_not_fit_into_one_token(folder: Path) -> None:
    """9 frames of 3 actions and a speed are 36 numbers."""
    told = refusal(folder, "vit", history=9)
    assert "the past actions and speeds are 36 numbers, and a token of model 'vit' has 32" in told
    assert opened(folder, "vit", history=8).spec.width == 32


def test_images_that_a_model_cannot_take(folder: Path) -> None:
    told = refusal(folder, "dinov2", image_height=8, image_width=8)
    assert "model 'dinov2' (Dinov2Model) makes no tokens of images of 8 x 8" in told


def broken(folder: Path, tmp_path: Path) -> Path:
    """A copy of the ViT, to be damaged."""
    shutil.copytree(folder / "vit", tmp_path / "vit")
    return tmp_path / "vit"


def test_weights_that_are_in_no_file_are_found_if_tokens_depend_on_them(folder: Path, tmp_path: Path) -> None:
    """transformers draws them at random and goes on. Those of the pooler do not matter here."""
    path = broken(folder, tmp_path) / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    without_pooler = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    assert len(without_pooler) == len(weights) - 2
    safetensors.torch.save_file(without_pooler, path, {"format": "pt"})
    assert opened(tmp_path, "vit").spec.width == 32
    safetensors.torch.save_file(without_pooler | {"layernorm.weight": torch.ones(7)}, path, {"format": "pt"})
    assert "model 'vit' cannot be opened by transformers" in refusal(tmp_path, "vit")
    del without_pooler["layernorm.weight"]
    safetensors.torch.save_file(without_pooler, path, {"format": "pt"})
    told = refusal(tmp_path, "vit")
    assert "the weights 'layernorm.weight' of model 'vit' are in none of its files" in told


def test_torn_weights(folder: Path, tmp_path: Path) -> None:
    path = broken(folder, tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "model 'vit' cannot be opened by transformers" in refusal(tmp_path, "vit")


def test_weights_that_are_not_finite(folder: Path, tmp_path: Path) -> None:
    path = broken(folder, tmp_path) / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["layernorm.bias"][3] = float("nan")
    safetensors.torch.save_file(weights, path, {"format": "pt"})
    assert "gives tokens that are not finite" in refusal(tmp_path, "vit")


def test_a_kind_of_model_that_transformers_does_not_know(folder: Path, tmp_path: Path) -> None:
    path = broken(folder, tmp_path) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "vit-of-tomorrow"}))
    assert f"cannot be opened by transformers {transformers().__version__}: " in refusal(tmp_path, "vit")


def test_without_transformers_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert refusal(folder, "vit") == (
        "encoder.kind 'huggingface' needs transformers, which is missing. Install it: pip install 'flowlab[hf]'"
    )
