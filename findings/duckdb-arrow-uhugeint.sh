#!/usr/bin/env bash
# DuckDB 1.5.6 hands a UHUGEINT to Arrow as decimal128(38, 0) with its bits as they are: from 2^127 on the number comes
# out negative, without an error, and the largest of all is -1. TIMETZ comes out as a time without its offset, so
# 10:00+02 and 10:00+00 are equal there. fetchall gives both right.
# Guess before it was run: an error for what 38 digits cannot hold, and a time in UTC.
# It matters where a hash or a row counter is kept as UHUGEINT and read with polars or pandas by way of Arrow.
# Seen with duckdb 1.5.6, pyarrow 26.0.1, Python 3.11. Fails if any of it changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==1.5.6 pyarrow==26.0.1
"$dir/venv/bin/python" - <<'PY'
import duckdb

question = """
    select 340282366920938463463374607431768211455::uhugeint as largest,
        170141183460469231731687303715884105728::uhugeint as half, 7::uhugeint as small,
        '10:00:00+02'::timetz as there, '10:00:00+00'::timetz as here"""
rows = duckdb.sql(question).fetchall()
(arrow,) = duckdb.sql(question).to_arrow_table().to_pylist()
print("fetchall:", rows[0][:3])
print("arrow:   ", *(arrow[name] for name in ("largest", "half", "small", "there", "here")))
assert rows[0][:3] == (2**128 - 1, 2**127, 7)
assert (int(arrow["largest"]), int(arrow["half"]), int(arrow["small"])) == (-1, -(2**127), 7)
assert rows[0][3] != rows[0][4] and arrow["there"] == arrow["here"]
PY
