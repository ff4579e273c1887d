#!/usr/bin/env bash
# DuckDB 1.5.6 prints a view over `a cross join b left join c on ...`, once its file was opened anew, with a comma: `a
# , b LEFT JOIN c ON ...`. A comma binds weaker than a join, so what it prints is another statement: where the
# condition names a table left of the comma, it cannot be made again of its own text (duckdb_views().sql). The stored
# view itself goes on answering right. In a subquery of its own the cross join is printed well.
# Guess before it was run: the text of a view gives the view back.
# It matters wherever views are copied by their texts, or compared by them.
# Seen with duckdb 1.5.6, Python 3.11. Fails if any of it changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==1.5.6
"$dir/venv/bin/python" - "$dir/file.duckdb" <<'PY'
import sys

import duckdb

connection = duckdb.connect(sys.argv[1])
connection.execute("create table a as select 1 as x; create table b as select 2 as y; create table c as select 1 as x, 2 as y")
told = {
    "plain": "select a.x, b.y, c.x as z from a cross join b left join c on c.x = a.x and c.y = b.y",
    "subquery": "select ab.x, ab.y, c.x as z from (select * from a cross join b) as ab left join c on c.x = ab.x and c.y = ab.y",
}
for name, select in told.items():
    connection.execute(f"create view {name} as {select}")
connection.close()
connection = duckdb.connect(sys.argv[1])
again = {}
for name in told:
    ((text,),) = connection.execute("select sql from duckdb_views() where view_name = ?", [name]).fetchall()
    print(text)
    try:
        connection.execute(text.replace("CREATE VIEW", "create or replace view", 1))
        again[name] = connection.execute(f"from {name}").fetchall()
    except duckdb.Error as error:
        again[name] = type(error).__name__
    print("  made again of it:", again[name])
assert connection.execute(told["plain"]).fetchall() == [(1, 2, 1)]
assert again == {"plain": "NotImplementedException", "subquery": [(1, 2, 1)]}, again
PY
