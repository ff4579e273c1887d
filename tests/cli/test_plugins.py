"""What docs/plugins.md says, word for word, through the true command line."""

import re
from pathlib import Path

import pytest

from tests.cli.tiny_study import ask, flowlab, write_tiny

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return found


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
        ({"return MLP(": 'raise ValueError("no such size"); return MLP('}, "cannot be built: no such size"),
        ({"import torch\n": "import torch\nimport nowhere_to_be_found\n"}, "cannot be loaded"),
    ],
)
def test_a_plug_in_that_breaks_its_promise_is_refused_before_anything_is_written(study: Path, change, told) -> None:
    module = study / "my_policy.py"
    sound = module.read_text()
    for old, new in change.items():
        assert old in sound
        module.write_text(sound.replace(old, new, 1))
    before = sorted(path.name for path in (study / "runs").glob("*")) if (study / "runs").exists() else []
    try:
        assert told in flowlab(study, "run", "--lever", "mlp-decoder", "--seeds", "1003", code=2).stderr
    finally:
        module.write_text(sound)
    after = sorted(path.name for path in (study / "runs").glob("*") if path.name != "study.jsonl")
    assert after == [name for name in before if name != "study.jsonl"]
