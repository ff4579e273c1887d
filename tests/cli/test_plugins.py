"""What docs/plugins.md says, word for word, through the true command line."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.tiny_study import ask, command, flowlab, write_tiny

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()


def block(language: str) -> str:
    first, *_ = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)  # tests/evaluate runs the readout's
    return first


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study with the page's levers and its module beside experiments.toml."""
    folder = write_tiny(tmp_path_factory.mktemp("plugins"))
    path = folder / "experiments.toml"
    path.write_text(path.read_text() + "\n" + block("toml"))
    (folder / "my_policy.py").write_text(block("python"))
    flowlab(folder, "cache", "build")
    return folder


def test_the_pages_levers_run(study: Path) -> None:
    flowlab(study, "run", "--lever", "mlp-decoder,huber", "--seeds", "1001")
    runs = ask(study, "select lever, status from run_status where lever <> 'control' order by lever")
    assert [(run["lever"], run["status"]) for run in runs] == [("huber", "finished"), ("mlp-decoder", "finished")]
    keys = ask(study, "select lever, changed_keys from runs where lever <> 'control' order by lever")
    assert [row["changed_keys"] for row in keys] == [
        ["objective.kind", "objective.options.delta"],
        ["decoder.kind", "decoder.options.hidden"],
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"build_mlp(settings": "build_lmp(settings"}, "cannot be loaded"),
        ({".relu()": ".relu() + torch.randn(1)"}, "cannot be trained as one program of several runs"),
        ({"return MLP(": 'raise ValueError("no such size"); return MLP('}, "cannot be built: ValueError: no such size"),
        ({"import torch\n": "import torch\nimport nowhere_to_be_found\n"}, "cannot be loaded"),
    ],
)
def test_a_plug_in_that_breaks_its_promise_is_refused_before_anything_is_written(study: Path, change, told) -> None:
    module = study / "my_policy.py"
    sound = module.read_text()
    for old, new in change.items():
        assert old in sound
        module.write_text(sound.replace(old, new, 1))
    before = sorted((study / "runs").glob("*/"))  # folders: the study's own journal and lock may be written
    try:
        assert told in flowlab(study, "run", "--lever", "mlp-decoder", "--seeds", "1003", code=2).stderr
    finally:
        module.write_text(sound)
    assert sorted((study / "runs").glob("*/")) == before


def test_a_lever_that_fails_while_it_trains_takes_no_other_with_it(study: Path) -> None:
    """It keeps its promises on small batches and fails on those of the study."""
    module, sound = study / "my_policy.py", (study / "my_policy.py").read_text()
    broken = '        if len(batch.action[0]) > 10:\n            raise OSError("the disk of dreams is full")\n'
    module.write_text(sound.replace("        t = self.times(", broken + "        t = self.times("))
    try:
        asked = command("run", "--lever", "huber,placebo", "--seeds", "1002")
        done = subprocess.run(asked, cwd=study, capture_output=True, text=True, check=False)
    finally:
        module.write_text(sound)
    assert done.returncode == 2
    assert "failed: OSError: the disk of dreams is full. Traceback: runs/huber-1002-" in done.stderr
    runs = ask(study, "select lever, status from run_status where seed = 1002 and lever <> 'control' order by lever")
    assert [(run["lever"], run["status"]) for run in runs] == [("huber", "interrupted"), ("placebo", "finished")]


def test_an_edited_plug_in_is_another_run(study: Path) -> None:
    flowlab(study, "run", "--lever", "huber", "--seeds", "1001")
    module = study / "my_policy.py"
    module.write_text(module.read_text() + "\n# edited\n")
    assert "huber @ 1001: asked for" in flowlab(study, "run", "--lever", "huber", "--seeds", "1001").stderr
    assert len(ask(study, "select * from runs where lever = 'huber' and seed = 1001")) == 2
