"""Whatever is changed in a finished ledger behind flowlab's back, `verify` finds it and names the entry."""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowlab.core.digest import digest_json
from flowlab.core.errors import ChainBrokenError
from flowlab.journal.lines import RunJournal, StudyJournal
from flowlab.ledger.chain import GENESIS, Link, extend_chain, hash_of
from flowlab.ledger.connection import open_ledger
from flowlab.ledger.ingest import ingest
from flowlab.ledger.migrate import describe_schema, fresh_schema, migrate, view_statements
from flowlab.ledger.verify import require_intact, verify
from flowlab.verdict.record import record_decisions
from flowlab.verdict.seal import amend_rule
from tests.journal.lines_of_each_kind import SCREEN
from tests.verdict.campaign import EVALUATION, FLAT, Campaign, preset, sealable

PANEL = (1001, 1002, 1003)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a campaign with an entry of every kind: every table has rows."""
    folder = tmp_path_factory.mktemp("finished")
    ledger, runs = folder / "ledger.duckdb", folder / "runs"
    migrate(ledger)
    with StudyJournal.of(runs) as journal:
        journal.cache(cache_id="cache", identity={"a": 1}, num_train=9, num_val=3, val_drives_digest="v")
        journal.encoder(encoder_key="k", encoder_digest="d", file_name="f", train_drives=["a"], settings={"width": 64})
        journal.base(control_digest="base", cache_id="cache", evaluation_id="e", stacked=[], recipe={"a": 1})
        design = sealable(preset("paired", PANEL, (1001, 1002))).design()
        journal.calibrate(digest=digest_json(design), design=design)
        journal.screen(**SCREEN)
        journal.tree(digest=digest_json({"phases": []}), tree={"phases": []}, amended_digest="old", reason="why")
        journal.phase(tree_digest="t", phase="loss", what="began", why="first")
        journal.note(about="lever", subject="good", note="looks good")
        journal.tag(about="lever", subject="bad", taxonomy="outcome", value="negative")
    campaign = Campaign(ledger, runs, preset("paired", PANEL, (1001, 1002)))
    campaign.controls(dict.fromkeys(PANEL, 0.4), flat=0.1)
    for lever, value in {"good": 0.36, "bad": 0.41}.items():
        for seed in (1001, 1002):
            campaign.run(lever, seed, value, flat=0.1)
    campaign.run("unstable", 1001, 0.3, ending="crashed")
    with RunJournal.of(runs, "extra") as journal:
        journal.registered(
            run_id="extra",
            study="test",
            lever="imported",
            seed=7,
            replicate=0,
            recipe={"train": {"lr": 1e-3}},
            recipe_digest="r",
            control_digest="c",
            cache_id="imported",
            evaluation_id="f",
            evaluation=EVALUATION,
            changed_keys=["train.lr"],
            tags=["scale:pilot"],
            origin="mlflow:a.db",
        )
        journal.started(
            attempt=0, device="cpu", cohort_size=1, threads=1, pid=1, environment={"a": "b"}, git_revision="g"
        )
        journal.wall_time({"train": 1.0}, attempt=0)
        journal.artifact("policy.safetensors", "d", 5)
        journal.crashed("loss is not finite", 3)
    ingest(ledger, runs)
    record_decisions(runs, ledger)
    with StudyJournal.of(runs) as journal:
        journal.stack(
            lever="good",
            recipe_digest="good-recipe",
            rule_digest="x",
            control_digest="base",
            cache_id="cache",
            evaluation_id="e",
            changes={"train.lr": 1.0},
            new_control_digest="new",
            replicate_seed=1003,
            effect=0.04,
        )
    ingest(ledger, runs)
    wider = FLAT.model_copy(update={"margin": 0.005})
    rule = sealable(preset("panel", PANEL, (1001, 1002))).model_copy(update={"guardrails": (wider,)})
    amend_rule(rule, "paired fooled us", runs, ledger)
    verify(ledger, runs)
    return folder


def tables(ledger: Path) -> dict[str, list[tuple[str, str]]]:
    """The columns of each table, with their types."""
    with duckdb.connect(str(ledger), read_only=True) as connection:
        names = connection.execute("select table_name from duckdb_tables() order by 1").fetchall()
        return {name: [row[:2] for row in connection.execute(f"describe {name}").fetchall()] for (name,) in names}


def other_value(kind: str, value: Any, stream: random.Random) -> Any:
    """A value of the same type that is not `value`: often a near one."""
    if value is None:
        return {"VARCHAR": "x", "BIGINT": 1, "DOUBLE": 0.5}[kind]
    if kind == "UBIGINT":
        return stream.choice([value + 1, value - 1])
    if kind == "BIGINT":
        return stream.choice([value + 1, value - 1, -value - 1])
    if kind == "DOUBLE":
        return stream.choice([value * (1 + 2**-52) if value else 5e-324, -value if value else 1.0, value + 0.001])
    if kind == "VARCHAR[]":
        return [*value, "x"]
    return stream.choice([f"{value} ", f"{value}x", value[:-1] if value else "y"])


def tampered(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(finished / "ledger.duckdb", tmp_path / "ledger.duckdb"))


@pytest.fixture(scope="module")
def copied(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a copy of that ledger, for what is rolled back again."""
    path = shutil.copy(finished / "ledger.duckdb", tmp_path_factory.mktemp("copied") / "ledger.duckdb")
    with duckdb.connect(str(path)) as connection:
        yield connection


@contextmanager
def rolled_back(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
    finally:
        connection.rollback()


def edit(connection: duckdb.DuckDBPyConnection, table: str, column: str, kind: str, stream: random.Random) -> str:
    """Change one value of one row; what was done, in words."""
    rows = connection.execute(f'select rowid, "{column}" from {table}').fetchall()
    assert rows, f"{table} has no rows to change"
    rowid, value = stream.choice(rows)
    new = other_value(kind, value, stream)
    connection.execute(f'update {table} set "{column}" = ? where rowid = ?', [new, rowid])
    return f"{table}.{column}, row {rowid}: {value!r} became {new!r}"


def is_found(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the ledger alone tells that it was changed."""
    try:
        require_intact(connection)
    except ChainBrokenError:
        return True
    return False


def test_every_table_of_the_finished_ledger_has_rows(finished: Path) -> None:
    with duckdb.connect(str(finished / "ledger.duckdb"), read_only=True) as connection:
        empty = [name for name in tables(finished / "ledger.duckdb") if not connection.table(name).fetchall()]
    assert empty == []


def test_a_change_in_any_column_of_any_table_is_found(copied: duckdb.DuckDBPyConnection, finished: Path) -> None:
    assert not is_found(copied)
    stream, missed = random.Random(0), []
    for table, columns in tables(finished / "ledger.duckdb").items():
        for column, kind in columns:
            with rolled_back(copied):
                done = edit(copied, table, column, kind, stream)
                missed += [] if is_found(copied) else [done]
    assert missed == []
    assert not is_found(copied)


def test_such_a_change_is_found_by_verify(finished: Path, tmp_path: Path) -> None:
    ledger = tampered(finished, tmp_path)
    with duckdb.connect(str(ledger)) as connection:
        edit(connection, "metrics", "value", "DOUBLE", random.Random(0))
    for runs in (finished / "runs", tmp_path / "no-runs"):
        with pytest.raises(ChainBrokenError):
            verify(ledger, runs)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_a_change_of_any_value_is_found(copied: duckdb.DuckDBPyConnection, finished: Path, seed: int) -> None:
    stream = random.Random(seed)
    table, columns = stream.choice(list(tables(finished / "ledger.duckdb").items()))
    with rolled_back(copied):
        done = edit(copied, table, *stream.choice(columns), stream)
        assert is_found(copied), done


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), act=st.sampled_from(["delete", "insert"]))
def test_a_row_that_goes_or_comes_is_found(
    copied: duckdb.DuckDBPyConnection, finished: Path, seed: int, act: str
) -> None:
    stream = random.Random(seed)
    table = stream.choice(list(tables(finished / "ledger.duckdb")))
    with rolled_back(copied):
        rowid = stream.choice(copied.execute(f"select rowid from {table}").fetchall())[0]
        statement = "delete from {0} where rowid = ?" if act == "delete" else "insert into {0} from {0} where rowid = ?"
        if (table, act) == ("alembic_version", "insert"):  # its key takes no row twice
            statement = "insert into {0} values ('0001')"
            rowid = None
        copied.execute(statement.format(table), [] if rowid is None else [rowid])
        assert is_found(copied), f"{act} {table} {rowid}"


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_a_swapped_pair_of_entries_is_found(copied: duckdb.DuckDBPyConnection, finished: Path, seed: int) -> None:
    """Their numbers, with and without the numbers in the rows that they brought."""
    stream = random.Random(seed)
    chained = [name for name in tables(finished / "ledger.duckdb") if name not in ("alembic_version", "views_applied")]
    with rolled_back(copied):
        ((num_entries,),) = copied.execute("select count(*) from chain").fetchall()
        first, second = sorted(stream.sample(range(1, num_entries + 1), 2))
        for table in chained if stream.random() < 0.5 else ["chain"]:
            swap = f"case entry when {first} then {second} else {first} end"
            copied.execute(f"update {table} set entry = {swap} where entry in ({first}, {second})")
        with pytest.raises(ChainBrokenError, match=rf"entry {first}\b"):
            require_intact(copied)


def test_the_first_entry_that_does_not_fit_is_named(finished: Path, tmp_path: Path) -> None:
    ledger = tampered(finished, tmp_path)
    with duckdb.connect(str(ledger)) as connection:
        entries = connection.execute("select distinct entry from metrics order by 1").fetchall()
        connection.execute(f"update metrics set value = value + 1e-12 where entry >= {entries[2][0]}")
    with pytest.raises(ChainBrokenError, match=rf"entry {entries[2][0]} \(ingested .*\) does not fit its rows"):
        verify(ledger, finished / "runs")


def test_an_altered_view_is_found(finished: Path, tmp_path: Path) -> None:
    ledger = tampered(finished, tmp_path)
    with duckdb.connect(str(ledger)) as connection:
        connection.execute("create or replace view decisions as select *, 'stack' as verdict from lever_decisions")
    with pytest.raises(ChainBrokenError, match="view decisions was changed"):
        verify(ledger, finished / "runs")


def as_another_duckdb_made_it(ledger: Path) -> None:
    """Its views are those that their texts make, in words that this DuckDB prints otherwise."""
    with duckdb.connect(str(ledger)) as connection:
        texts = dict(connection.execute("select view_name, sql from duckdb_views() where not internal").fetchall())
        for name in view_statements():
            connection.execute(texts[name].replace("CREATE VIEW", "create or replace view", 1))
        connection.execute("comment on table views_applied is '2.0'")


def test_views_that_another_duckdb_made_are_taken_at_their_answers(finished: Path, tmp_path: Path) -> None:
    ledger = tampered(finished, tmp_path)
    as_another_duckdb_made_it(ledger)
    with open_ledger(ledger, read_only=True) as connection:
        ours, theirs = fresh_schema(), describe_schema(connection)
    assert {name for name in ours if ours[name] != theirs[name]} >= {"view chi_square_quantiles"}
    verify(ledger, finished / "runs")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "create or replace view decisions as select *, 'stack' as verdict from lever_decisions",
            "decisions was changed",
        ),
        ("create or replace view panel as from judged_values where seed > 1001", "panel was changed"),
        ("create or replace view panel as from nowhere_to_be_found", "panel was changed"),
        ("drop view panel", "panel is missing"),
    ],
)
def test_an_altered_view_is_found_among_those_of_another_duckdb(
    finished: Path, tmp_path: Path, statement: str, told: str
) -> None:
    ledger = tampered(finished, tmp_path)
    as_another_duckdb_made_it(ledger)
    with duckdb.connect(str(ledger)) as connection:
        if "nowhere" in statement:
            connection.execute("create table nowhere_to_be_found as from judged_values")
        connection.execute(statement)
        connection.execute("drop table if exists nowhere_to_be_found")
    with pytest.raises(ChainBrokenError, match=f"view {told}"):
        verify(ledger, finished / "runs")


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("create macro round(a, b) as -a", "function round"),
        ("create macro sha256(a) as 'x'", "function sha256"),
        ("create macro duckdb_functions() as table select 'memory' as database_name", "function duckdb_functions"),
        ("create sequence numbers", "sequence numbers"),
        ("create type decision as enum ('stack')", "type decision"),
        ("create schema beside", "schema beside"),
        ("create schema beside; create table beside.metrics as from main.metrics", "schema beside"),
    ],
)
def test_whatever_else_is_put_into_the_ledger_is_found(finished: Path, tmp_path: Path, statement, name) -> None:
    """A macro stands for the function of its name in every view, also in those that would look for it."""
    ledger = tampered(finished, tmp_path)
    with duckdb.connect(str(ledger)) as connection:
        connection.execute(statement)
    with pytest.raises(ChainBrokenError, match=f"{name} is not flowlab's"):
        verify(ledger, finished / "runs")


def make_chain_anew(connection: duckdb.DuckDBPyConnection) -> None:
    """What somebody does who knows how the chain is made."""
    chain = connection.table("chain").order("entry").to_arrow_table().to_pylist()
    connection.execute("delete from chain")
    links = [Link(row["entry"], row["kind"], row["subject"], row["position"], b"", row["time_us"]) for row in chain]
    previous = GENESIS
    for old, new in zip(chain, extend_chain(connection, links), strict=True):
        row = new | {"source_digest": old["source_digest"]}
        row["hash"] = previous = hash_of(previous, row)
        named = ", ".join(f"${column} as {column}" for column in row)
        connection.execute(f"insert into chain by name select {named}", row)


@pytest.mark.parametrize(
    "act", ["update metrics set value = 0.3 where value = 0.36", "delete from events where step = 3"]
)
def test_a_chain_that_was_made_anew_over_changed_rows_is_found(finished: Path, tmp_path: Path, act: str) -> None:
    ledger = tampered(finished, tmp_path)
    with duckdb.connect(str(ledger)) as connection:
        make_chain_anew(connection)
    verify(ledger, finished / "runs")
    with duckdb.connect(str(ledger)) as connection:
        connection.execute(act)
        make_chain_anew(connection)
    verify(ledger, tmp_path / "no-runs")  # the ledger alone cannot tell
    with pytest.raises(ChainBrokenError, match=r"entry \d+ \(ingested .*\) has other rows than its journal says"):
        verify(ledger, finished / "runs")


@pytest.mark.parametrize(
    ("journal", "words"),
    [
        ("study.jsonl", "was made from another line"),
        ("good-1001-0-good-recipe-cache-evaluation/journal.jsonl", "was made from other bytes"),
    ],
)
def test_an_edited_journal_is_found(finished: Path, tmp_path: Path, journal: str, words: str) -> None:
    study = Path(shutil.copytree(finished, tmp_path / "study"))
    path = study / "runs" / journal
    path.write_text(path.read_text().replace("0.36", "0.35").replace('"stacked":[]', '"stacked":["x"]'))
    with pytest.raises(ChainBrokenError, match=words):
        verify(study / "ledger.duckdb", study / "runs")


def test_a_head_that_was_noted_must_be_in_the_chain(finished: Path) -> None:
    ledger, runs = finished / "ledger.duckdb", finished / "runs"
    head = verify(ledger, runs).head
    assert verify(ledger, runs, head).head == head
    with pytest.raises(ChainBrokenError, match="none of them ends in"):
        verify(ledger, runs, "0" * 63 + "1")
