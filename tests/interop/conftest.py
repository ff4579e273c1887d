import shutil
from pathlib import Path

import pytest

from tests.ledger.judged_ledger import make_judged


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Path:
    """The judged ledger, to be looked at only; its journals lie in `runs` beside it."""
    folder = tmp_path_factory.mktemp("judged")
    shutil.copy(template, folder / "ledger.duckdb")
    return make_judged(folder / "ledger.duckdb", folder / "runs")
