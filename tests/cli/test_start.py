"""How a study begins: init and demo."""

from pathlib import Path

from flowlab.cli.start import DEMO_FOLDER, _demo_folder
from flowlab.study.study import load_study
from tests.cli.tiny_study import flowlab, write_tiny


def test_init_writes_a_study_that_loads_and_never_overwrites_one(tmp_path: Path) -> None:
    assert "flowlab cache build" in flowlab(tmp_path, "init", "mine", "--source", "synthetic").stderr
    assert load_study(tmp_path / "mine").name == "mine"
    text = (tmp_path / "mine" / "experiments.toml").read_text()
    assert "experiments.toml" in flowlab(tmp_path, "init", "mine", "--source", "synthetic", code=2).stderr
    assert (tmp_path / "mine" / "experiments.toml").read_text() == text


def test_the_demo_makes_its_folder_where_there_is_no_study(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _demo_folder() == tmp_path / DEMO_FOLDER
    assert load_study(tmp_path / DEMO_FOLDER).name == "demo"


def test_the_demo_uses_the_study_around_it(tmp_path: Path, monkeypatch) -> None:
    write_tiny(tmp_path)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert _demo_folder() == tmp_path
