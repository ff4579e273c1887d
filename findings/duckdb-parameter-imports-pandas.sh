#!/usr/bin/env bash
# DuckDB's Python client 1.5.6 imports pandas, numpy and pyarrow (whatever of them is installed) at the first statement
# with a parameter, be it a plain text or number; so does executemany. The same question with a literal, or with
# parameters that are all None, imports nothing.
# Guess before it was run: a str or an int is bound as it is, and pandas is imported when a data frame is asked for.
# It matters to a command that asks one short question: 0.5 s of processor here, more than all else that it did.
# Seen with duckdb 1.5.6, pandas 3.1.1, Python 3.11. Fails if any of it changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==1.5.6 pandas==3.1.1
imported() {
    "$dir/venv/bin/python" -c "
import sys, duckdb
$1
print(*[name for name in ('pandas', 'numpy') if name in sys.modules], end='')"
}
for plain in "duckdb.sql(\"select 'a' = 'b'\").fetchall()" \
    "duckdb.execute('select ?', [None]).fetchall()"; do
    echo "$plain imports: $(imported "$plain")"
    test -z "$(imported "$plain")"
done
for bound in "duckdb.execute('select ? = ?', ['a', 'b']).fetchall()" \
    "duckdb.execute('select ?', [1]).fetchall()" \
    "c = duckdb.connect(); c.execute('create table t (a int)'); c.executemany('insert into t values (?)', [[1]])"; do
    echo "$bound imports: $(imported "$bound")"
    test "$(imported "$bound")" = "pandas numpy"
done
