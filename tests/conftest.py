import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Tiny products are slower with two threads than with one, most of all on a busy machine; and bits are promised at one
# thread. Set before torch is imported, and seen by the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

from flowlab.ledger.migrate import migrate

if TYPE_CHECKING:
    from flowlab.core.object_store import ObjectStore
    from flowlab.study.study import Study

# Compiling flowlab anew takes half a second of each process that a test starts, and compiling the tests half of the
# time in which they are collected. Some machines ask Python for that.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture
def no_ledger(tmp_path: Path) -> Path:
    """Where a ledger goes that nobody has made yet."""
    return tmp_path / "ledger.duckdb"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger without rows."""
    path = tmp_path_factory.mktemp("template") / "ledger.duckdb"
    migrate(path)
    return path


@pytest.fixture
def ledger(no_ledger: Path, template: Path) -> Path:
    """A ledger without rows, for one test."""
    shutil.copy(template, no_ledger)
    return no_ledger


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, template: Path) -> "Study":
    """A small study with finished runs, to be looked at only: the control, a regression, and one that kept a rung."""
    from tests.lab.finished import finish

    folder = tmp_path_factory.mktemp("finished") / "study"
    folder.mkdir()
    shutil.copy(template, folder / "ledger.duckdb")  # which spares it the migrations
    return finish(folder, ["regression", "rungs"])


@pytest.fixture(scope="session")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an S3 server's buckets, to which this process and those that it starts are pointed."""
    from tests.core.s3_server import ENVIRONMENT, serve

    folder = tmp_path_factory.mktemp("buckets")
    before = dict(os.environ)
    with serve(folder) as endpoint:
        os.environ.update(ENVIRONMENT, AWS_ENDPOINT_URL=endpoint)
        yield folder
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def bucket(buckets: Path) -> "ObjectStore":
    """A bucket of its own, empty."""
    from flowlab.core.object_store import ObjectStore

    folder = buckets / f"bucket-{len(list(buckets.iterdir()))}"
    folder.mkdir()
    return ObjectStore(f"s3://{folder.name}")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The folder of journals beside it."""
    return tmp_path / "runs"
