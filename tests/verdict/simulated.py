"""Many small campaigns in one ledger in memory: quicker than journals, with the primary metric and nothing else."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow

from flowlab.ledger.scratch import fill, scratch_ledger
from flowlab.study.rule import Rule

if TYPE_CHECKING:
    import duckdb

Values = Mapping[str, Mapping[int, float]]
"""By lever (the control is "control") and seed."""


class Simulated:
    """Holds one campaign at a time."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection") -> None:
        self.connection = connection

    def ask(self, view: str, values: Values | None = None) -> list[dict]:
        """The rows of a view, as dicts, of a campaign with these values; of the last one if none are given."""
        if values is not None:
            rows = [
                {"campaign": 0, "lever": lever, "seed": seed, "value": float(value)}
                for lever, of_lever in values.items()
                for seed, value in of_lever.items()
            ]
            fill(self.connection, pyarrow.Table.from_pylist(rows))
        answer = self.connection.execute(f"select * from {view}")
        columns = [column[0] for column in answer.description or []]
        return [dict(zip(columns, row, strict=True)) for row in answer.fetchall()]


@contextmanager
def simulated(rule: Rule) -> Iterator[Simulated]:
    """A ledger in memory in which `rule` is sealed."""
    with scratch_ledger(rule) as connection:
        yield Simulated(connection)
