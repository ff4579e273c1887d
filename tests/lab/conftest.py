import shutil
from pathlib import Path

import pytest

from flowlab.lab.caches import prepare_caches
from flowlab.study.study import Study, load_study
from tests.lab.small_study import CPU, write_small


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small study with the caches of its control and of all its levers."""
    study = write_small(tmp_path_factory.mktemp("built") / "study")
    prepare_caches(study, study.open_levers, CPU)
    return study.root


@pytest.fixture
def whole(built: Path) -> Study:
    """The same, to be looked at only."""
    return load_study(built)


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Study:
    """The same, for one test to change."""
    return load_study(Path(shutil.copytree(built, tmp_path / "study")))
