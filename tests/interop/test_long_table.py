"""Tables that people keep by hand: a row a number. The one here has the figures of the published campaign."""

from pathlib import Path

import pytest

from flowlab.core.errors import LedgerError, UnknownNameError
from flowlab.interop.import_runs import import_runs
from flowlab.interop.long_table import read_long_table
from flowlab.interop.metric_map import MetricMap
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.report.board import read_boards
from flowlab.report.campaign import read_campaign
from flowlab.report.page import render
from flowlab.study.study import Study, load_study
from tests.cli.tiny_study import write_tiny
from tests.report.studies import section

PUBLISHED = Path(__file__).parents[1] / "assets" / "published" / "pilot_loop.csv"
MAPPED = [
    "steering_l1/spike_frame/meank=l1:steering:spike_frame:meank",
    "gas_l1/spike_frame/meank=l1:gas:spike_frame:meank",
]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = load_study(write_tiny(tmp_path_factory.mktemp("published") / "study"))
    foreign = read_long_table(PUBLISHED, None, None, "seed")
    import_runs(foreign, study.runs, study.name, "control", MetricMap.parse(MAPPED))
    ingest(study.ledger, study.runs)
    return study


def table(folder: Path, *lines: str) -> Path:
    path = folder / "mine.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_of_one_experiment_lever_and_seed_are_one_run(published: Study) -> None:
    question = "select metric, channel, value from final_metrics where lever = 'control' and seed = 1001 order by all"
    assert read(published.ledger, question).rows == [("l1", "gas", 0.0741), ("l1", "steering", 0.3555)]


def test_an_outcome_is_a_tag(published: Study) -> None:
    question = "select value from tags join runs using (run_id) where taxonomy = 'outcome' and lever = 'delta-50'"
    assert read(published.ledger, question).rows == [("negative",)]


def test_a_number_that_nobody_mapped_keeps_its_own_names(published: Study) -> None:
    question = "select metric, channel, slice, readout from final_metrics where lever = 'ranker-t4'"
    assert read(published.ledger, question).rows == [("steering_l1", "", "spike_frame", "ranker")]


def test_its_board_has_the_published_panel(published: Study) -> None:
    (board,) = read_boards(read_campaign(published))
    assert (round(board.mean, 4), round(board.sd, 4)) == (0.3367, 0.0140)
    effects = {row.lever: round(row.effect, 4) for row in board.rows}
    assert effects["delta-off"] == 0.0092
    assert {row.decision for row in board.rows} == {""}


def test_its_page_says_that_nothing_is_decided(published: Study) -> None:
    page = render(published)
    assert "20 of 20 runs were imported" in section(page, "state")
    assert "imported: shown, never stacked" in section(page, "board")
    assert "no seed" in section(page, "runs")


def test_a_number_that_a_run_has_twice_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "lever,metric,value", "a,l1,0.1", "a,l1,0.2")
    with pytest.raises(LedgerError, match=r"line 3: run 'a' has 'l1/overall' before"):
        read_long_table(path, None, None, None)


def test_a_table_of_something_else_is_refused_with_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="lacks the columns lever, value"):
        read_long_table(table(tmp_path, "name,metric", "a,l1"), None, None, None)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="'seeds'"):
        read_long_table(table(tmp_path, "lever,metric,value,seed", "a,l1,1,2"), None, None, "seeds")


def test_rows_without_a_number_are_left_out_and_told(tmp_path: Path) -> None:
    path = table(tmp_path, "lever,metric,value", "a,l1,0.1", "b,l1,soon", "c,l1,0.2")
    foreign = read_long_table(path, None, None, None)
    assert [run.name for run in foreign.runs] == ["a", "c"]
    assert "1 of 3 rows of mine.csv left out" in foreign.notes[0]
