import shutil
from pathlib import Path

import pytest

from flowlab.ledger.migrate import migrate


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger without rows."""
    path = tmp_path_factory.mktemp("template") / "ledger.duckdb"
    migrate(path)
    return path


@pytest.fixture
def ledger(tmp_path: Path, template: Path) -> Path:
    """A ledger without rows, for one test."""
    return Path(shutil.copy(template, tmp_path / "ledger.duckdb"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The folder of journals beside it."""
    return tmp_path / "runs"
