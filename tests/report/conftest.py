from pathlib import Path

import pytest

from flowlab.report.page import render, write_report
from flowlab.study.study import Study
from tests.report.studies import write_judged


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The four runs of docs/views.md: a panel of two controls, and `wide`, which is stacked. To be looked at only."""
    return write_judged(tmp_path_factory.mktemp("judged") / "study")


@pytest.fixture(scope="session")
def judged_page(judged: Study) -> str:
    return render(judged)


@pytest.fixture(scope="session")
def finished_file(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study that was really trained."""
    return write_report(finished, tmp_path_factory.mktemp("report") / "report.html")
