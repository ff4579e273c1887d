"""A ledger in memory, with the tables and views of the real ones: what a simulated campaign is judged in."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flowlab.journal.journal import Line
from flowlab.ledger.connection import open_ledger, open_new
from flowlab.ledger.migrate import migrate
from flowlab.ledger.rows import rows_of
from flowlab.ledger.study_rows import STUDY_KINDS
from flowlab.ledger.values import with_values
from flowlab.ledger.writer import Writer
from flowlab.study.rule import Rule

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray

COPY = {
    "runs": "runs",
    "events": "events where what in ('registered', 'started', 'interrupted', 'finished', 'crashed')",
    "metrics": "metrics where step = -1",
    "tags": "tags where taxonomy in ('scored-from', 'purpose')",
    "attempts": "attempts",
    "environments": "environments",
    "rules": "rules",
    "rule_terms": "rule_terms",
    "calibrations": "calibrations",
    "screens": "screens",
    "screen_levers": "screen_levers",
    "screen_rows": "screen_rows",
    "screen_weights": "screen_weights",
    "rule_stages": "rule_stages",
    "rule_guardrails": "rule_guardrails",
    "rule_seeds": "rule_seeds",
    "amendments": "amendments",
}
"""What decisions and their reasons rest on, table by table."""

FILL = """
create temp table simulated as
select
    (row_number() over ())::varchar as run_id,
    lever,
    seed,
    'base-' || campaign as control_digest,
    if(lever = 'control', 'base-' || campaign, lever) as recipe_digest,
    value
from arrived;

insert into runs by name
select
    run_id, 'simulated' as study, lever, seed, 0 as replicate, recipe_digest, control_digest,
    control_digest as base_id, 'cache' as cache_id, 'evaluation' as evaluation_id, '{}' as evaluation_json,
    [] as changed_keys, '' as hypothesis, 1 as time_us, 1 as entry
from simulated;

insert into events by name
select '' as journal, 0 as position, run_id, 'finished' as what, '' as detail, 1 as time_us, 1 as entry
from simulated;

insert into metrics by name
select
    run_id, rules.metric, rules.channel, rules.slice, rules.drive, rules.readout, rules.number_key, -1 as step, value,
    1 as time_us, 1 as entry
from simulated
cross join rules;

drop table simulated;
"""
"""Strings are short, since those of up to 12 characters are compared fastest."""

FILL_SCREENS = """
create temp table campaigns as select 'base-' || campaign as base from range({num}) as numbers(campaign);

insert into screens by name
select
    base as screen, rules.rule_digest, base as control_digest, 'cache' as cache_id, 'evaluation' as evaluation_id,
    base as base_id, 1.0 as sigma, 1 as sigma_df, terms.screen_bar as bar, terms.screen_guard as guard,
    '{{}}' as excluded_json, 1 as time_us, 1 as entry
from campaigns
cross join rules
join rule_terms as terms using (rule_digest);

insert into screen_levers by name
select base as screen, lever, lever as recipe_digest, position, 1 as time_us, 1 as entry
from campaigns
cross join arrived_levers;

insert into screen_rows by name
select base as screen, row_name, position, seed, row_name as recipe_digest, [] as levers, 1 as time_us, 1 as entry
from campaigns
cross join arrived_rows;

insert into screen_weights by name
select base as screen, 0 as solution, lever, row_name, weight, 1 as time_us, 1 as entry
from campaigns
cross join arrived_weights;

drop table campaigns;
"""


@contextmanager
def scratch_ledger(rule: Rule) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A ledger in memory in which `rule` is sealed and nothing has been run."""
    with tempfile.TemporaryDirectory() as folder, open_new(":memory:") as connection:
        empty = Path(folder) / "empty.duckdb"
        migrate(empty)
        connection.execute(with_values("attach ? as empty (read_only)", [str(empty)]))
        connection.execute("copy from database empty to memory")  # which takes a third of making it there
        connection.execute("detach empty")
        writer = Writer(connection)
        line = Line(0, {"kind": "seal", "time_us": 0, "digest": rule.digest(), "rule": rule.to_json()})
        for table, row in rows_of(line, {}, STUDY_KINDS):
            writer.insert(table, [row | {"entry": 1}])
        yield connection


@contextmanager
def scratch_copy(ledger_path: Path, rule: Rule, amended_digest: str) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A ledger in memory with all that decisions rest on, in which `rule` has taken the place of a sealed one."""
    with scratch_ledger(rule) as connection:
        with open_ledger(ledger_path, read_only=True) as ledger:
            copied = {
                table: ledger.execute(f"select {_columns(connection, table)} from {question}").to_arrow_table()
                for table, question in COPY.items()
            }
        for table, rows in copied.items():
            connection.register("arrived", rows)
            connection.execute(f"insert into {table} by name select * from arrived")
            connection.unregister("arrived")
        newest = "update rules set entry = 9223372036854775807 where rule_digest = ?"
        connection.execute(newest, [rule.digest()])
        connection.execute(
            "insert into amendments by name "
            "select ? as rule_digest, ? as amended_digest, '' as reason, epoch_us(now()) as time_us",
            [rule.digest(), amended_digest],
        )
        yield connection


def _columns(connection: "duckdb.DuckDBPyConnection", table: str) -> str:
    """The columns that flowlab gives a table, whatever somebody added to it in a ledger of their own."""
    return ", ".join(f'"{row[0]}"' for row in connection.execute(f"describe {table}").fetchall())


def fill(connection: "duckdb.DuckDBPyConnection", runs: "pyarrow.Table") -> None:
    """Replace what has been run by `runs` (campaign, lever, seed, value): finished, with that primary metric."""
    for table in ("runs", "events", "metrics"):
        connection.execute(f"delete from {table}")
    connection.register("arrived", runs)
    connection.execute(FILL)
    connection.unregister("arrived")


def fill_screens(
    connection: "duckdb.DuckDBPyConnection",
    levers: list[str],
    row_names: list[str],
    seeds: list[int],
    weights: "NDArray[np.float64]",
    num: int,
) -> None:
    """Replace what is screened: `num` campaigns by the same design. weights: (levers, rows)."""
    import pyarrow

    for table in ("screens", "screen_levers", "screen_rows", "screen_weights"):
        connection.execute(f"delete from {table}")
    arrived = {
        "arrived_levers": {"lever": levers, "position": list(range(len(levers)))},
        "arrived_rows": {"row_name": row_names, "position": list(range(len(row_names))), "seed": seeds},
        "arrived_weights": {
            "lever": [lever for lever in levers for _ in row_names],
            "row_name": row_names * len(levers),
            "weight": weights.ravel(),
        },
    }
    for name, columns in arrived.items():
        connection.register(name, pyarrow.table(columns))
    connection.execute(FILL_SCREENS.format(num=num))
    for name in arrived:
        connection.unregister(name)
