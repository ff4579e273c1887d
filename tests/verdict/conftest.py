from collections.abc import Iterator

import pytest

from flowlab.ledger.scratch import scratch_ledger
from tests.verdict.campaign import panel_rule
from tests.verdict.told import Told


@pytest.fixture(scope="session")
def in_memory() -> Iterator[Told]:
    """A ledger in memory, made once: `told` empties it."""
    with scratch_ledger(panel_rule()) as connection:
        yield Told(connection)


@pytest.fixture
def told(in_memory: Told) -> Told:
    """A ledger without rows, to which lines of journals are told one by one."""
    in_memory.forget()
    return in_memory
