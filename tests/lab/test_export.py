"""A finished run as one ONNX graph, or as a folder: both give what the policy gives, or are not written."""

import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

import flowlab
from flowlab.core.errors import PluginError, PolicyError, StudyError
from flowlab.encoder.huggingface import open_huggingface
from flowlab.lab.banks import raw_draws
from flowlab.lab.checkpoints import find_runs, open_checkpoint
from flowlab.lab.export_folder import export_folder, is_export
from flowlab.lab.onnx_export import OPSET, export_onnx, read_told, trace
from flowlab.lab.stitching import Exportable, Feed, sample_feed, stitch
from flowlab.policy.action_space import fit_action_space
from flowlab.policy.build import build_decoder, build_objective
from flowlab.policy.stitched import Stitched
from flowlab.study.huggingface import HuggingFaceSettings
from flowlab.study.recipe import ActionSpaceSettings, DecoderSettings, Recipe
from flowlab.study.study import Study, load_study
from tests.cli.tiny_study import ask, flowlab_here
from tests.encoder.tiny_models import save

onnxruntime = pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def study(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Finished runs, to which numbers of exports are added."""
    return load_study(Path(shutil.copytree(finished.root, tmp_path_factory.mktemp("export") / "study")))


@pytest.fixture(scope="module")
def control(study: Study) -> Exportable:
    return stitch(open_checkpoint(study, find_runs(study, ["control-1001"])[0]))


def tensors(feed: Feed) -> list[torch.Tensor]:
    return [torch.from_numpy(value) for value in feed.values()]


def computed(graph: Path | bytes, feed: Feed) -> np.ndarray:
    """What onnxruntime makes of the feed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"]).run(None, feed)[0]


def test_the_stitched_policy_draws_what_the_run_has_kept(control: Exportable) -> None:
    """To half precision: the run's draws were made from the cache's conditions."""
    feed = sample_feed(control, 5, 2)
    frames = control.checkpoint.frames()
    rows = np.linspace(0, len(frames) - 1, 5).astype(int)
    kept = raw_draws(control.checkpoint, control.checkpoint.evaluation)[rows]
    found = control.policy(*tensors(feed)).numpy()
    assert found.shape == kept.shape == (5, 2, 6, 3)
    np.testing.assert_allclose(found, kept, atol=2e-3)
    assert not np.allclose(found[0], kept[1], atol=2e-2)  # another frame's are others


@pytest.fixture(scope="module")
def graphs(study: Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """By lever, the graph of its run, and what the command said."""
    folder = tmp_path_factory.mktemp("graphs")
    made = {}
    for lever in ("control", "regression"):
        path = folder / f"{lever}.onnx"
        made[lever] = (path, flowlab_here(study.root, "export", f"{lever}-1001", "--onnx", str(path)).stdout)
    return made


@pytest.mark.parametrize("lever", ["control", "regression"])
def test_the_graph_gives_pytorch_s_actions_and_the_run_its_numbers(
    study: Study, graphs: dict[str, tuple[Path, str]], lever: str
) -> None:
    (path, shown), run = graphs[lever], f"{lever}-1001"
    assert re.search(r"MB, [\d,]+ nodes", shown) and re.search(r"ms for a frame, 1 draw \(median of \d+", shown)
    where = f"run_id like '{run}-%' and metric like 'onnx_%'"
    rows = ask(study.root, f"select metric, readout, value from final_metrics where {where} order by all")
    draws = ["draws-1"] if lever == "regression" else ["draws-1", "draws-2"]
    expected = [("onnx_difference", ""), *(("onnx_latency_ms", one) for one in draws), ("onnx_megabytes", "")]
    assert [(row["metric"], row["readout"]) for row in rows] == expected
    assert 0 < rows[0]["value"] <= 1e-4 and all(row["value"] > 0 for row in rows)
    exportable = stitch(open_checkpoint(study, find_runs(study, [run])[0]))
    for num, draw in ((1, 1), (5, 3)):  # any number of frames and draws
        feed = sample_feed(exportable, num, draw)
        np.testing.assert_allclose(computed(path, feed), exportable.policy(*tensors(feed)), atol=1e-4)
    told = read_told(path)
    assert told is not None and told["run_id"].startswith(run)
    assert told["feed"]["images"]["shape"] == ["batch", 6, 16, 16, 3]


@pytest.fixture
def traced(graphs: dict[str, tuple[Path, str]]) -> Iterator[None]:
    """The control's graph without being traced once more."""
    content = graphs["control"][0].read_bytes()
    with patch("flowlab.lab.onnx_export.trace", lambda *_: content):
        yield


@pytest.mark.usefixtures("traced")
def test_a_second_export_takes_the_place_of_the_first_whose_numbers_stay(control: Exportable, tmp_path: Path) -> None:
    first = export_onnx(control, tmp_path / "policy.onnx")
    again = export_onnx(control, tmp_path / "policy.onnx")
    assert first.new_rows == again.new_rows == 0 and again.megabytes == first.megabytes
    assert [path.name for path in tmp_path.iterdir()] == ["policy.onnx"]


@pytest.mark.usefixtures("traced")
def test_a_graph_that_gives_other_actions_is_refused_and_nothing_is_left(control: Exportable, tmp_path: Path) -> None:
    with (
        patch("flowlab.lab.onnx_export.TOLERANCE", -1.0),
        pytest.raises(PolicyError, match="from PyTorch's on 32 validation windows"),
    ):
        export_onnx(control, tmp_path / "policy.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_traced_is_refused_in_one_sentence(
    control: Exportable, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    without_operator = patch.object(type(control.policy.space), "to_raw", lambda _, model: torch.special.i0(model))
    with without_operator, pytest.raises(PolicyError, match=r"cannot be written as one graph: .*i0.*--to FOLDER"):
        export_onnx(control, tmp_path / "policy.onnx")
    assert list(tmp_path.iterdir()) == [] and capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("policy.bin", "ends in .onnx"),
        ("none/policy.onnx", "there is no folder"),
        ("taken.onnx", "no graph of flowlab"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_first(study: Study, tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "taken.onnx").write_text("somebody else's")
    assert told in flowlab_here(study.root, "export", "control-1001", "--onnx", str(tmp_path / name), code=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken.onnx"]


def test_a_missing_library_is_named_with_how_to_install_it(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    told = flowlab_here(study.root, "export", "control-1001", "--onnx", str(tmp_path / "a.onnx"), code=2).stderr
    assert "pip install 'flowlab[onnx]'" in told.replace("\n", "")
    assert "--onnx FILE.onnx, --to FOLDER or both" in flowlab_here(
        study.root, "export", "control-1001", code=2
    ).stderr.replace("\n", " ")


SPACES = [
    {"transform": transform, "merge": merge, "tails": tails}
    for transform, merge, tails in (
        ("gaussianize", True, "end"),
        ("gaussianize", False, "linear"),
        ("gaussianize-dct", True, "end"),
        ("standardise", True, "end"),
        ("identity", False, "end"),
        ("mu-law", True, "end"),
        ("chunk-dct", False, "end"),
    )
]


@pytest.mark.parametrize("settings", SPACES, ids=lambda table: f"{table['transform']}-{table['tails']}")
def test_every_action_space_is_inverted_in_a_graph(settings: dict[str, Any]) -> None:
    """On actions in the fitted range and beyond it."""
    raw = torch.rand(300, 6, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.0, 2.0])
    space = fit_action_space(ActionSpaceSettings(**settings), ("gas", "brake", "steering"), raw - 0.5)

    class Inverted(torch.nn.Module):
        def forward(self, model: torch.Tensor) -> torch.Tensor:
            return space.to_raw(model)

    model = 4 * torch.randn(50, 2, 6, len(space.channels), generator=torch.Generator().manual_seed(1))
    buffer = BytesIO()
    given = {"input_names": ["model"], "dynamic_axes": {"model": {0: "batch"}}, "opset_version": OPSET}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Inverted(), (model[:2],), buffer, dynamo=False, **given)
    found, expected = computed(buffer.getvalue(), {"model": model.numpy()}), space.to_raw(model)
    np.testing.assert_allclose(found, expected, atol=2e-6, rtol=2e-6)


def test_a_hugging_face_encoder_is_a_part_of_the_graph(tmp_path: Path) -> None:
    save("dinov2", tmp_path / "dinov2")
    table = HuggingFaceSettings(kind="huggingface", model="dinov2", heads=2)
    encoder = open_huggingface(table, tmp_path, ("gas", "brake", "steering"), False, 2).freeze()
    recipe = Recipe(decoder=DecoderSettings(width=16, layers=1, heads=2))
    recipe = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"solver_steps": 1})})
    decoder = build_decoder(recipe.decoder, encoder.spec, 3, 2, [0], CPU)
    space = fit_action_space(ActionSpaceSettings(transform="standardise"), encoder.channels, torch.rand(9, 3, 3))
    policy = Stitched(encoder, decoder, build_objective([recipe], 3, CPU), space, [0, 1], 3, recipe.evaluation)
    stream = np.random.default_rng(0)
    feed = {
        "images": stream.integers(0, 256, (3, 2, encoder.image_height, encoder.image_width, 3), dtype=np.uint8),
        "history_action": stream.random((3, 2, 3), dtype=np.float32),
        "speed_mps": stream.random((3, 2), dtype=np.float32),
        "noise": stream.standard_normal((3, 2, 3, 2), dtype=np.float32),
    }
    np.testing.assert_allclose(computed(trace(policy, feed), feed), policy(*tensors(feed)), atol=1e-5)


def lines_of_the_docs() -> str:
    """The lines of docs/full-path.md that load a folder without flowlab's study, ledger and caches."""
    blocks = re.findall(r"\n\n((?:    .*\n|\n)+)", (ROOT / "docs" / "full-path.md").read_text())
    (found,) = [block for block in blocks if "safetensors" in block]
    return re.sub(r"^    ", "", found, flags=re.MULTILINE)


def test_the_twenty_lines_of_the_docs_load_a_folder_and_predict(
    control: Exportable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = sample_feed(control, 3, 2)
    expected = control.policy(*tensors(feed))
    made = export_folder(control, tmp_path / "exported")
    assert made.files == ("encoder.safetensors", "policy.json", "policy.safetensors")
    code = lines_of_the_docs()
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    assert not re.search(r"flowlab\.(lab|ledger|cache|verdict|evaluate|train)", code)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/full-path.md", "exec"), names)
    assert torch.equal(names["policy"](*tensors(feed)), expected)
    assert torch.equal(flowlab.load_policy(tmp_path / "exported")(*tensors(feed)), expected)


def test_the_folder_of_a_hugging_face_encoder_holds_its_model(control: Exportable, tmp_path: Path) -> None:
    save("dinov2", tmp_path / "dinov2")
    table = HuggingFaceSettings(kind="huggingface", model="dinov2", temporal="none")
    encoder = open_huggingface(table, tmp_path, ("gas", "brake", "steering"), True, 6).freeze()
    recipe = control.checkpoint.recipe
    decoder = build_decoder(recipe.decoder, encoder.spec, 6, 2, [0], CPU)
    facts = replace(control.checkpoint.policy.facts, spec=encoder.spec)
    policy = replace(control.checkpoint.policy, decoder=decoder, facts=facts)
    checkpoint = replace(control.checkpoint, policy=policy)
    exportable = replace(control, checkpoint=checkpoint, origin=replace(control.origin, encoder=encoder))
    export_folder(exportable, tmp_path / "exported")
    shutil.rmtree(tmp_path / "dinov2")
    loaded = flowlab.load_policy(tmp_path / "exported")
    images = torch.randint(0, 256, (2, 42, 42, 3), dtype=torch.uint8)
    assert torch.equal(loaded.encoder.encode_frames(images), encoder.encode_frames(images))
    assert is_export(tmp_path / "exported")


def test_a_folder_that_is_no_export_is_refused_and_an_earlier_export_makes_way(
    study: Study, control: Exportable, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    told = flowlab_here(study.root, "export", "control-1001", "--to", str(tmp_path / "mine"), code=2).stderr
    assert "is not empty" in told and (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    export_folder(control, tmp_path / "out")
    assert "policy.json" in flowlab_here(study.root, "export", "control-1001", "--to", str(tmp_path / "out")).stdout
    (tmp_path / "out" / "notes.txt").write_text("keep")
    with pytest.raises(StudyError, match="is not empty"):
        export_folder(control, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]


def test_a_folder_that_was_changed_is_not_loaded(control: Exportable, tmp_path: Path) -> None:
    export_folder(control, tmp_path / "out")
    path = tmp_path / "out" / "policy.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(PolicyError, match=r"policy.safetensors is not what was written"):
        flowlab.load_policy(tmp_path / "out")
    with pytest.raises(PolicyError, match="no policy that flowlab has exported"):
        flowlab.load_policy(tmp_path)


def test_plug_ins_are_refused_where_they_cannot_go(control: Exportable, tmp_path: Path) -> None:
    settings, kept = DecoderSettings(kind="tests.policy.mlp_decoder:build"), control.checkpoint.policy
    decoder = build_decoder(settings, kept.facts.spec, 6, 2, [0], CPU)
    facts = replace(kept.facts, recipe=kept.facts.recipe.model_copy(update={"decoder": settings}))
    checkpoint = replace(control.checkpoint, policy=replace(kept, decoder=decoder, facts=facts))
    exportable = stitch(checkpoint)
    with pytest.raises(PluginError, match=r"plug-in 'tests.policy.mlp_decoder:build', whose code no folder can hold"):
        export_folder(exportable, tmp_path / "out")
    with pytest.raises(PluginError, match=r"plug-in decoder 'tests.policy.mlp_decoder:build', which .* traced"):
        export_onnx(exportable, tmp_path / "out.onnx")
    with pytest.raises(PluginError, match=r"is a plug-in \(object\)"):
        export_folder(replace(control, origin=replace(control.origin, encoder=object())), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
