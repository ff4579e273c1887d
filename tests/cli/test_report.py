"""`flowlab report` writes one file, and says in one sentence what it cannot do."""

import json
from pathlib import Path

from tests.cli.tiny_study import flowlab_here, write_tiny
from tests.report.studies import write_judged


def test_a_report_lies_in_the_study_and_in_json(tmp_path: Path) -> None:
    study = write_judged(tmp_path / "study")
    told = json.loads(flowlab_here(study.root, "report", "--json").stdout)
    assert Path(told["file"]) == study.root / "report.html"
    assert told["bytes"] == (study.root / "report.html").stat().st_size


def test_a_folder_that_is_no_file_is_refused(tmp_path: Path) -> None:
    study = write_judged(tmp_path / "study")
    (tmp_path / "there").mkdir()
    done = flowlab_here(study.root, "report", "--out", str(tmp_path / "there"), code=2)
    assert "there" in done.stderr
    assert list(tmp_path.glob("*.partial")) == []


def test_a_live_page_goes_into_no_file(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path)
    assert "--serve writes no file" in flowlab_here(folder, "report", "--serve", "--out", "a.html", code=2).stderr
    assert "--port goes with --serve" in flowlab_here(folder, "report", "--port", "8000", code=2).stderr
