"""A study with a Hugging Face encoder, through the command line: caches, levers, what is told, what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from flowlab.cache.cache import open_cache
from flowlab.core.errors import EncoderError
from flowlab.drives.source import open_source
from flowlab.lab.caches import prepare_caches
from flowlab.study.study import Study, load_study
from tests.cli.tiny_study import flowlab_here
from tests.encoder.tiny_models import plain_output, save
from tests.lab.small_study import CPU, Said, edited, small_text

TOKENS = '"encoder.pool" = "patches", "encoder.image_grid" = 2, "decoder.image_tokens" = true'
LEVERS = f"""
[levers.hf]
set = {{ "encoder.kind" = "huggingface", "encoder.model" = "dinov3", "encoder.window_steps" = 1 }}
[levers.hf-bare]
set = {{ "encoder.kind" = "huggingface", "encoder.model" = "dinov3", "encoder.temporal" = "none", {TOKENS} }}
"""
BARE = '[encoder]\nkind = "huggingface"\nmodel = "dinov3"\ntemporal = "none"\npool = "patches"\n'


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The small study, its control and two levers over DINOv3 built by the command line; to be copied."""
    folder = tmp_path_factory.mktemp("study")
    save("dinov3", folder / "dinov3")
    (folder / "experiments.toml").write_text(small_text(LEVERS))
    flowlab_here(folder, "cache", "build")
    return load_study(folder)


@pytest.fixture
def study(built: Study, tmp_path: Path) -> Study:
    return load_study(shutil.copytree(built.root, tmp_path / "study"))


def cache_ids(study: Study) -> dict[str, str]:
    """By lever, the id of its cache."""
    listed = json.loads(flowlab_here(study.root, "cache", "list", "--json").stdout)
    return {lever: cache["cache_id"] for cache in listed for lever in cache["levers"]}


def written(tmp_path: Path, encoder: str) -> Path:
    """A study with that table [encoder] over a tiny DINOv3; nothing is built."""
    save("dinov3", tmp_path / "dinov3")
    head, _, rest = small_text("").partition("[encoder]")
    (tmp_path / "experiments.toml").write_text(f"{head}{encoder}[{rest.partition('[')[2]}")
    return tmp_path


def refusal(folder: Path) -> str:
    """What `cache build` says as it ends with exit code 2."""
    told = flowlab_here(folder, "cache", "build", code=2).stderr
    assert told.count("error: ") == 1
    assert not list((folder / "caches").glob("*.zarr"))
    return told.partition("error: ")[2].replace("\n", " ")


def test_a_cache_holds_the_tokens_that_transformers_gives(tmp_path: Path) -> None:
    """To fp16 rounding, for the last validation window: 16 image tokens of now, and their mean in front."""
    root = written(tmp_path, BARE)
    built = json.loads(flowlab_here(root, "cache", "build", "--json").stdout)
    cache = open_cache(root / "caches" / f"{built['cache_id']}.zarr")
    assert built["condition"] == "28 tokens of width 32 (1 summary + 1 history + 10 waypoints + 16 image)"
    source = open_source(load_study(root).file.drives, root)
    drive = source.load("drive_03")
    val = cache.split("val")
    now = int(np.flatnonzero(drive.frame_index == val.frame_index[-1, -1])[0])
    image = torch.from_numpy(source.images(drive, np.array([now]), 32, 32))
    model = save("dinov3", tmp_path / "again")
    expected = plain_output(model, image).last_hidden_state[0, 5:].numpy()
    found = np.asarray(val.condition["normal"][-1]).astype(np.float32)
    np.testing.assert_allclose(found[12:], expected.astype(np.float16), rtol=2**-10, atol=2**-16)
    np.testing.assert_allclose(found[0], expected.mean(axis=0).astype(np.float16), rtol=2**-10, atol=2**-16)


def test_levers_may_take_it_beside_a_control_of_flowlabs_own(study: Study) -> None:
    ids = cache_ids(study)
    assert len({ids["control"], ids["hf"], ids["hf-bare"]}) == 3
    assert open_cache(study.caches / f"{ids['hf']}.zarr").spec.width == 32
    assert len(list((study.caches / "encoders").glob("*.safetensors"))) == 2, "the bare one comes frozen"


def test_a_moved_folder_is_the_same_encoder(study: Study) -> None:
    before = cache_ids(study)
    (study.root / "dinov3").rename(study.root / "elsewhere")
    path = study.root / "experiments.toml"
    path.write_text(path.read_text().replace('"dinov3"', '"elsewhere"'))
    said = Said()
    done = prepare_caches(load_study(study.root), ("hf", "hf-bare"), CPU, said)
    assert {line.partition(" ")[0] for line in said.lines} == {"verify"}, "nothing is trained or told"
    assert not any(one.is_new for one in done)
    assert cache_ids(study) == before


def changed(folder: Path) -> None:
    """One weight of the model, a little larger."""
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["norm.bias"][0] += 0.125
    safetensors.torch.save_file(weights, path, {"format": "pt"})


def test_other_weights_in_the_same_folder_are_another_cache_and_told(study: Study) -> None:
    before = cache_ids(study)
    changed(study.root / "dinov3")
    said = Said()
    prepare_caches(study, ("hf", "hf-bare"), CPU, said)
    after = cache_ids(study)
    assert after["control"] == before["control"]
    assert after["hf"] != before["hf"] and after["hf-bare"] != before["hf-bare"]
    told = [line for line in said.lines if line.startswith("model 'dinov3' has other weights, or another")]
    assert len(told) == 2


def test_a_model_that_is_gone_leaves_its_caches(study: Study) -> None:
    before = cache_ids(study)
    shutil.rmtree(study.root / "dinov3")
    done = prepare_caches(study, ("hf", "hf-bare"), CPU, Said())
    assert not any(one.is_new for one in done)
    assert cache_ids(study) == before


def test_a_model_that_is_there_and_broken_is_told_though_its_caches_are_there(study: Study) -> None:
    path = study.root / "dinov3" / "preprocessor_config.json"
    path.write_text(path.read_text().replace('"image_mean"', '"image_median"'))
    with pytest.raises(EncoderError, match="image_mean"):
        prepare_caches(study, ("hf",), CPU, Said())


def test_the_pinned_temporal_part_is_taken_and_not_trained_again(study: Study) -> None:
    shutil.rmtree(study.caches / f"{cache_ids(study)['hf']}.zarr")
    shutil.rmtree(study.caches / "inputs")
    said = Said()
    prepare_caches(study, ("hf",), CPU, said)
    assert not any(line.startswith("pretraining") for line in said.lines)


def test_the_command_line_shows_and_trains_it(tmp_path: Path) -> None:
    root = written(tmp_path, '[encoder]\nkind = "huggingface"\nmodel = "dinov3"\nwidth = 16\nwindow_steps = 1\n')
    assert "is not trained yet. Train it: flowlab encoder train" in flowlab_here(root, "encoder", "show", code=2).stderr
    flowlab_here(root, "encoder", "train")
    facts = json.loads(flowlab_here(root, "encoder", "show", "--json").stdout)
    assert facts["condition"] == "12 tokens of width 16 (1 summary + 1 history + 10 waypoints)"
    assert facts["model_tokens"] == "1 class token + 4 registers + 4 x 4 patches of width 32"
    assert facts["taken"] == "mean of the last hidden state"
    assert facts["pretraining"]["train_drives"] == ["drive_00", "drive_01", "drive_02"]
    assert "0 of" not in flowlab_here(root, "cache", "verify").stderr


def test_with_nothing_on_top_there_is_nothing_to_train_and_it_is_shown(tmp_path: Path) -> None:
    root = written(tmp_path, BARE)
    assert "there is nothing to train" in flowlab_here(root, "encoder", "train").stderr
    facts = json.loads(flowlab_here(root, "encoder", "show", "--json").stdout)
    assert facts["pretraining"] == "none: it comes frozen"
    assert facts["taken"] == "patches of the last hidden state"


@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        ('model = "./gone"\n', "model './gone' is not there: "),
        ('model = "dinov3"\nimage_width = 37\n', "never sees the last 5 columns"),
        ('model = "dinov3"\nlayer = 5\n', "has hidden states 0 to 2, and encoder.layer is 5."),
    ],
)
def test_what_cannot_be_is_one_sentence_and_exit_code_2(tmp_path: Path, encoder: str, told: str) -> None:
    assert told in refusal(written(tmp_path, f'[encoder]\nkind = "huggingface"\n{encoder}'))


def test_a_download_is_for_a_hugging_face_encoder(study: Study) -> None:
    text = small_text("")
    (study.root / "experiments.toml").write_text(text)
    told = flowlab_here(study.root, "cache", "build", "--download", code=2).stderr
    assert "--download fetches the model of an encoder of kind 'huggingface', and there is none here." in told


def test_a_download_is_asked_for_what_is_not_there_alone(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: asked.append(name))
    flowlab_here(study.root, "cache", "build", "--download")
    assert asked == [], "dinov3 is a folder"
    gone = edited(study, LEVERS, LEVERS.replace('"dinov3"', '"somebody/gone"'))
    told = flowlab_here(gone.root, "cache", "build", "--download", code=2).stderr
    assert asked == ["somebody/gone"]
    assert "model 'somebody/gone' is not there: looked for the folder" in told.replace("\n", " ")


OWN = """
from pathlib import Path
import torch
from flowlab.core.errors import EncoderError
from flowlab.core.types import ConditionSpec, TokenGroup

class Own:
    spec = ConditionSpec(8, (TokenGroup("summary", 1),))
    image_height = image_width = 16

    def __init__(self, settings, channels, has_waypoints, history):
        text = Path(settings.options["weights"]).read_text()
        self.weight, self.digest = float(text), f"own-{text}"

    def to(self, device):
        return self

    def encode_frames(self, images):
        return images.float().mean(dim=(1, 2))

    def encode_windows(self, features, history_action, speed_mps, waypoints):
        return torch.nn.functional.pad(features[:, -1], (0, 5)).unsqueeze(1) * self.weight
"""


def test_an_encoder_of_ones_own_is_named_by_its_weights_and_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same name with other weights is another cache; another name with the same code and weights is the same."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_frozen_a.py").write_text(OWN)
    (tmp_path / "own_frozen_b.py").write_text(OWN)
    (tmp_path / "own_frozen_c.py").write_text(f"{OWN}# edited\n")
    (tmp_path / "one").write_text("1.0")
    (tmp_path / "two").write_text("2.0")

    def built(module: str, weights: str) -> str:
        table = f'[encoder]\nkind = "{module}:Own"\noptions.weights = {json.dumps(str(tmp_path / weights))}\n'
        head, _, rest = small_text("").partition("[encoder]")
        (tmp_path / "experiments.toml").write_text(f"{head}{table}[{rest.partition('[')[2]}")
        (done,) = prepare_caches(load_study(tmp_path), (), CPU, Said())
        return done.path.stem

    first = built("own_frozen_a", "one")
    assert built("own_frozen_a", "two") != first
    assert built("own_frozen_b", "one") == first
    assert built("own_frozen_c", "one") != first, "its code is part of it"
    (tmp_path / "copy").write_text("1.0")
    assert built("own_frozen_a", "copy") == first, "where the weights lie is not"
    for name in "abc":
        sys.modules.pop(f"own_frozen_{name}", None)


def test_nothing_of_it_is_imported_before_it_is_opened() -> None:
    """transformers costs seconds: whoever only names such an encoder, or finds its caches, does without."""
    code = (
        "import sys, flowlab.cli.prepare, flowlab.lab.caches, flowlab.encoder.huggingface\n"
        "print([name for name in ('transformers', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_model_is_not_opened_to_find_its_caches(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowlab.encoder.huggingface.open_backbone", lambda *_: pytest.fail("opened"))
    assert not any(one.is_new for one in prepare_caches(study, ("hf", "hf-bare"), CPU, Said()))
