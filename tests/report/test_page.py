"""What a page says is what the ledger says, and nothing that a study says can become a part of the page."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flowlab.core.errors import MissingError, StudyError
from flowlab.journal.lines import StudyJournal
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.report.board import read_boards
from flowlab.report.campaign import read_campaign
from flowlab.report.page import SCRIPTS, as_data, render, require_place, write_report
from flowlab.report.state import read_state
from flowlab.study.study import Study, load_study
from flowlab.study.tree import PhaseSettings, TreeSettings
from tests.cli.tiny_study import write_tiny
from tests.report.studies import section, write_judged

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def data_of(page: str) -> dict:
    """The page's own numbers."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_board_has_the_numbers_of_docs_views(judged: Study) -> None:
    (board,) = read_boards(read_campaign(judged))
    assert (round(board.mean, 4), round(board.sd, 4)) == (0.39, 0.0141)
    (row,) = board.rows
    assert (row.lever, row.decision, round(row.effect, 4)) == ("wide", "stack", 0.025)
    assert [(dot.seed, dot.value, dot.is_judged) for dot in row.dots] == [(1001, 0.37, True), (1002, 0.36, True)]
    assert [(guard["slice"], round(guard["excess"], 4), guard["passes"]) for guard in row.guards] == [
        ("flat_frame", 0.002, True)
    ]


def test_a_place_on_the_axis_is_a_share_of_it(judged: Study) -> None:
    (board,) = read_boards(read_campaign(judged))
    places = {dot.value: dot.place for dot in (*board.control, *board.rows[0].dots)}
    assert places[0.38] - places[0.36] == pytest.approx(places[0.40] - places[0.38], abs=0.02)
    assert board.middle == pytest.approx((places[0.40] + places[0.38]) / 2, abs=0.02)


def test_an_effect_of_what_was_stacked_says_that_it_was_selected(judged_page: str) -> None:
    assert "+0.0250" in section(judged_page, "board")
    assert "selected, so flattered" in section(judged_page, "board")


def test_the_state_tells_the_rule_the_runs_and_what_was_decided(judged_page: str) -> None:
    state = section(judged_page, "state")
    assert "4 finished" in state
    assert "The rule says stack of wide (+0.0250)" in state


def test_every_number_of_the_table_is_the_ledgers(finished: Study, finished_file: Path) -> None:
    numbers = data_of(finished_file.read_text())["numbers"]
    told = {
        (run["id"], *key): value
        for run in numbers["runs"]
        for key, value in zip(numbers["keys"], run["values"], strict=True)
        if value is not None
    }
    question = "select run_id, metric, channel, slice, readout, value from final_metrics where drive = ''"
    assert told == {tuple(key): value for *key, value in read(finished.ledger, question).rows}


def test_a_run_card_has_its_command_and_its_digests(finished: Study, finished_file: Path) -> None:
    runs = section(finished_file.read_text(), "runs")
    question = "select run_id, recipe_digest from runs where lever = 'regression'"
    ((run_id, digest),) = read(finished.ledger, question).rows
    card = runs[runs.index(f'id="run-{run_id}"') :]
    card = card[: card.index("</article>")]
    assert "flowlab run --lever regression --seeds 1001" in card
    assert f"recipe {digest}" in card
    assert "objective.kind" in runs


@pytest.fixture(scope="module")
def changed_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a study with markup in its texts, whose control was changed after its runs."""
    study = write_judged(tmp_path_factory.mktemp("changed") / "study", hypothesis=EVIL)
    with StudyJournal.of(study.runs) as journal:
        journal.note(about="lever", subject="wide", note=EVIL)
        journal.tag(about="lever", subject="wide", taxonomy="outcome", value=EVIL)
    ingest(study.ledger, study.runs)
    text = (study.root / "experiments.toml").read_text()
    (study.root / "experiments.toml").write_text(text.replace("lr = 1e-3", "lr = 2e-3"))
    return render(load_study(study.root))


def test_a_recipe_that_changed_since_is_told(changed_page: str) -> None:
    assert "where by now train.lr = 0.002" in section(changed_page, "runs")


def test_texts_of_a_study_stay_texts(changed_page: str) -> None:
    assert "<script>alert" not in changed_page
    assert "<img src=x" not in changed_page
    assert changed_page.count("&lt;img src=x onerror=alert(2)&gt;") >= 2  # the note and the tag


def test_data_cannot_end_their_script() -> None:
    text = as_data({"name": "</script><!-- \u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"name": "</script><!-- \u2028"}


def test_only_the_pages_own_script_may_run_and_nothing_may_be_fetched(judged_page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', judged_page)[1]
    script = judged_page[judged_page.rindex("<script>") + len("<script>") : judged_page.rindex("</script>")]
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert not re.search(r'(?:src|href)="(?!#|data:)', judged_page)


def test_a_report_is_small(finished_file: Path) -> None:
    assert finished_file.stat().st_size < 2_000_000


def test_a_study_without_runs_has_a_report(tmp_path: Path) -> None:
    write_tiny(tmp_path / "study")
    study = load_study(tmp_path / "study")
    ingest(study.ledger, study.runs)
    page = render(study)
    assert "No lever has a finished run yet." in page
    assert "No rule is sealed, so nothing is decided." in page


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("experiments.toml", "a report is an HTML file"),
        ("mine.html", "is there and is no report of flowlab"),
        ("folder", "is a folder. Name a file in it"),
    ],
)
def test_a_report_takes_no_other_files_place(tmp_path: Path, name: str, told: str) -> None:
    study = load_study(write_tiny(tmp_path / "study"))
    (study.root / "mine.html").write_text("<p>my notes</p>")
    (study.root / "folder").mkdir()
    before = {path: path.read_bytes() for path in study.root.rglob("*") if path.is_file()}
    with pytest.raises(StudyError, match=told):
        write_report(study, study.root / name)
    assert {path: path.read_bytes() for path in study.root.rglob("*") if path.is_file()} == before


def test_a_report_takes_an_earlier_ones_place(finished_file: Path, tmp_path: Path) -> None:
    require_place(Path(shutil.copy(finished_file, tmp_path / "report.html")))


def test_without_a_ledger_it_says_so_and_writes_nothing(tmp_path: Path) -> None:
    write_tiny(tmp_path / "study")
    with pytest.raises(MissingError):
        write_report(load_study(tmp_path / "study"), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_report_needs_no_torch(judged: Study, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(torch=None, zarr=None)\n"
        "from pathlib import Path\n"
        "from flowlab.report.page import write_report\n"
        "from flowlab.study.study import load_study\n"
        f"write_report(load_study(Path({str(judged.root)!r})), Path({str(tmp_path / 'report.html')!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert "torch is not installed here" in section((tmp_path / "report.html").read_text(), "overlays")


def test_the_scripts_are_in_the_package() -> None:
    folder = Path(sys.modules["flowlab.report.page"].__file__).parent / "page"
    assert {*SCRIPTS, "style.css", "page.html"} <= {path.name for path in folder.iterdir()}


def test_the_phases_of_the_tree_stand_in_its_order(tmp_path: Path) -> None:
    study = write_judged(tmp_path / "study")
    tree = TreeSettings(phases=(PhaseSettings(name="a", levers=("wide",)), PhaseSettings(name="b", levers=("slow",))))
    with StudyJournal.of(study.runs) as journal:
        journal.tree(digest=tree.digest(), tree=tree.to_json())
        journal.phase(tree_digest=tree.digest(), phase="a", what="began", why="")
        journal.phase(tree_digest=tree.digest(), phase="a", what="ended", why="nothing is owed")
    ingest(study.ledger, study.runs)
    state = read_state(read_campaign(study))
    assert [(phase.name, phase.what, phase.why) for phase in state.tree] == [
        ("a", "ended", "nothing is owed"),
        ("b", "waits", ""),
    ]
