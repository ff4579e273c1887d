"""The table [encoder] of a Hugging Face model: what it takes, and how levers change it."""

from pathlib import Path

import pytest

from flowlab.core.errors import StudyError
from flowlab.study.huggingface import HuggingFaceSettings
from flowlab.study.settings import DriveViTSettings
from flowlab.study.study import Study, load_study
from tests.lab.small_study import small_text

ENCODER = 'kind = "huggingface"\nmodel = "dinov3"\n'


def study_with(folder: Path, encoder: str, more: str = "") -> Study:
    """The small study with that table [encoder]."""
    head, _, rest = small_text(more).partition("[encoder]")
    (folder / "experiments.toml").write_text(f"{head}[encoder]\n{encoder}[{rest.partition('[')[2]}")
    return load_study(folder)


def test_what_a_table_leaves_out(tmp_path: Path) -> None:
    settings = study_with(tmp_path, ENCODER).base.inputs.encoder
    assert isinstance(settings, HuggingFaceSettings)
    assert (settings.pool, settings.layer, settings.temporal, settings.dtype) == (
        "mean",
        None,
        "transformer",
        "float32",
    )
    assert settings.temporal_part(384).width == 384


def test_the_part_on_top_is_trained_as_that_of_drive_vit_is() -> None:
    own = DriveViTSettings()
    on_top = HuggingFaceSettings(kind="huggingface", model="x").temporal_part(own.width)
    for name, value in on_top:
        assert value == getattr(own, name), name


@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        ('kind = "huggingface"\n', "encoder.model is missing."),
        (f'{ENCODER}pool = "class"\n', "encoder.pool: got the text 'class': did you mean 'cls'?"),
        (f"{ENCODER}image_grid = 2\n", "encoder: image_grid averages patch tokens, and pool is 'mean'. Set pool = "),
        (f"{ENCODER}width = 36\n", "encoder: width 36 must be a multiple of twice the heads (4)"),
        (f"{ENCODER}patch = 8\n", "unknown key 'patch' in [encoder]"),
        (f"{ENCODER}layer = -1\n", "encoder.layer: got -1, expected 0 or more."),
        (f"{ENCODER}dtype = 16\n", "encoder.dtype: got 16, expected 'float32', 'float16' or 'bfloat16'"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, encoder: str, told: str) -> None:
    with pytest.raises(StudyError) as raised:
        study_with(tmp_path, encoder)
    assert told in str(raised.value)


def test_levers_go_there_and_back(tmp_path: Path) -> None:
    to_own = '[levers.own]\nset = { "encoder.kind" = "drive-vit", "encoder.width" = 64 }\n'
    encoder = study_with(tmp_path, ENCODER, to_own).setup("own").inputs.encoder
    assert encoder == DriveViTSettings(width=64)
    there = '[levers.hf]\nset = { "encoder.kind" = "huggingface", "encoder.model" = "a/b", "encoder.layer" = 6 }\n'
    (tmp_path / "experiments.toml").write_text(small_text(there))
    encoder = load_study(tmp_path).setup("hf").inputs.encoder
    assert encoder == HuggingFaceSettings(kind="huggingface", model="a/b", layer=6), "nothing of drive-vit's is left"


def test_a_lever_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "experiments.toml").write_text(small_text('[levers.hf]\nset = { "encoder.kind" = "huggingface" }\n'))
    with pytest.raises(StudyError, match=r"levers\.hf sets encoder\.model: got None, expected a text in quotes"):
        load_study(tmp_path)


@pytest.mark.parametrize(("pool", "fits"), [("mean", False), ("cls", False), ("patches", True), ("registers", True)])
def test_image_tokens_are_asked_of_a_pool_that_has_some(tmp_path: Path, pool: str, fits: bool) -> None:
    more = f'[levers.see]\nset = {{ "encoder.pool" = "{pool}", "decoder.image_tokens" = true }}\n'
    if fits:
        assert study_with(tmp_path, ENCODER, more).setup("see").recipe.decoder.image_tokens
    else:
        with pytest.raises(
            StudyError, match=rf"levers\.see has decoder\.image_tokens, and .* pool '{pool}' makes none"
        ):
            study_with(tmp_path, ENCODER, more)
