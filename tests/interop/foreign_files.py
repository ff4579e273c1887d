"""Files as other trackers write them. The tables are those of MLflow 3.17.2, without its foreign keys and indexes."""

import json
import sqlite3
import struct
import sys
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

MLFLOW = """
create table experiments (
    experiment_id integer not null primary key, name varchar(256) not null, artifact_location varchar(256),
    lifecycle_stage varchar(32), creation_time bigint, last_update_time bigint,
    workspace varchar(63) default 'default' not null);
create table runs (
    run_uuid varchar(32) not null primary key, name varchar(250), source_type varchar(20), source_name varchar(500),
    entry_point_name varchar(50), user_id varchar(256), status varchar(9), start_time bigint, end_time bigint,
    source_version varchar(50), lifecycle_stage varchar(20), artifact_uri varchar(200), experiment_id integer,
    deleted_time bigint, check (status in ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED')));
create table metrics (
    "key" varchar(250) not null, value float not null, timestamp bigint not null, run_uuid varchar(32) not null,
    step bigint default '0' not null, is_nan boolean default '0' not null,
    constraint metric_pk primary key ("key", timestamp, step, run_uuid, value, is_nan));
create table latest_metrics (
    "key" varchar(250) not null, value float not null, timestamp bigint, step bigint not null, is_nan boolean not null,
    run_uuid varchar(32) not null, constraint latest_metric_pk primary key ("key", run_uuid));
create table params (
    "key" varchar(250) not null, value varchar(8000) not null, run_uuid varchar(32) not null,
    constraint param_pk primary key ("key", run_uuid));
create table tags (
    "key" varchar(250) not null, value varchar(8000), run_uuid varchar(32) not null,
    constraint tag_pk primary key ("key", run_uuid));
create table alembic_version (version_num varchar(32) not null primary key);
insert into alembic_version values ('dc11669786a5');
insert into experiments values (0, 'Default', 'mlruns/0', 'active', 1000, 1000, 'default');
insert into experiments values (1, 'pilot', 'mlruns/1', 'active', 2000, 2000, 'default');
"""
KEY = "val/steering_l1"


class MlflowStore:
    """An MLflow store that is being filled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._time = 1_700_000_000_000
        with closing(_opened(path)) as database:
            database.executescript(MLFLOW)

    def run(
        self,
        run_id: str,
        name: str,
        values: dict[str, list[tuple[float, float]]] | None = None,
        status: str = "FINISHED",
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        experiment: int = 1,
        stage: str = "active",
    ) -> None:
        """A run with `values` by key, as (step, value); NaN and infinity as MLflow writes them."""
        self._time += 1000
        ended = None if status == "RUNNING" else self._time + 500
        rows = [
            ("runs", (run_id, name, "LOCAL", "", "", "", status, self._time, ended, "", stage, "", experiment, None))
        ]
        rows += [("params", (key, value, run_id)) for key, value in (params or {}).items()]
        rows += [("tags", (key, value, run_id)) for key, value in ({"mlflow.runName": name} | (tags or {})).items()]
        for key, points in (values or {}).items():
            for step, value in points:
                self._time += 1
                is_nan = value != value
                stored = 0.0 if is_nan else max(-sys.float_info.max, min(sys.float_info.max, value))
                rows.append(("metrics", (key, stored, self._time, run_id, step, is_nan)))
        with closing(_opened(self.path)) as database:
            for table, row in rows:
                database.execute(f"insert into {table} values ({', '.join('?' * len(row))})", row)
            database.commit()

    def execute(self, statement: str) -> int:
        """How many rows it changed."""
        with closing(_opened(self.path)) as database:
            count = database.execute(statement).rowcount
            database.commit()
            return count


def _opened(path: Path) -> sqlite3.Connection:
    """The store, to be written without waiting for a disk."""
    database = sqlite3.connect(path)
    database.execute("pragma synchronous = off")
    return database


def pilot(path: Path) -> MlflowStore:
    """Two runs of the control and one of a lever, two steps each."""
    store = MlflowStore(path)
    for run_id, name, seed, value in (
        ("a" * 32, "baseline", "1001", 0.40),
        ("b" * 32, "baseline", "1002", 0.38),
        ("c" * 32, "Delta Off", "1001", 0.37),
    ):
        params = {"seed": seed, "lr": "0.1", "delta": "0" if name == "Delta Off" else "10"}
        store.run(run_id, name, {KEY: [(0, 0.5), (10, value)], "loss": [(0, 1.0), (10, 0.25)]}, params=params)
    return store


HISTORY = """\
_runtime,_step,loss,val/steering_l1,note,_timestamp,run_id,run,seed
0.4,0,1.0,0.5,,1700000000.5,r1,baseline,1001
0.5,1,0.5,,hello,1700000001.5,r1,baseline,1001
0.6,2,0.25,0.40,,1700000002.5,r1,baseline,1001
0.1,0,1.0,0.5,,1700000010.5,r2,Delta Off,1001
0.2,1,NaN,,,1700000011.5,r2,Delta Off,1001
0.3,2,Infinity,0.37,,1700000012.5,r2,Delta Off,1001
"""

PLOT = """\
"Step","baseline - loss","baseline - loss__MIN","baseline - loss__MAX","delta - off - loss","delta - off - loss__MIN","delta - off - loss__MAX"
"0","1.0","1.0","1.0","2.0","2.0","2.0"
"10","0.5","0.5","0.5","","",""
"20","0.25","0.25","0.25","1.5","1.5","1.5"
"""  # noqa: E501 -- as the web page writes it


def message(*fields: tuple[int, int | bytes | str]) -> bytes:
    """A protobuf message of numbers, and of bytes and texts with their lengths."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(_varint(number << 3) + _varint(value % 2**64))
        else:
            content = value.encode() if isinstance(value, str) else value
            parts.append(_varint(number << 3 | 2) + _varint(len(content)) + content)
    return b"".join(parts)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes([value])
    return bytes([value & 0x7F | 0x80]) + _varint(value >> 7)


def item(value: Any, *names: str) -> bytes:
    """A setting or a logged value, as JSON."""
    keys = [(2, name) for name in names] if len(names) > 1 else [(1, names[0])]
    return message(*keys, (16, json.dumps(value)))


def offline_records(
    run_id: str,
    name: str = "",
    config: dict[str, Any] | None = None,
    history: Sequence[dict[str, Any]] = (),
    exit_code: int | None = 0,
    project: str = "pilot",
) -> list[bytes]:
    """What an offline run of W&B writes: a header, the run, each step that was logged, its exit."""
    settings = message(*((1, item(value, key)) for key, value in (config or {}).items()))
    start = message((1, 1_700_000_000))
    run = message((1, run_id), (3, project), (4, settings), (6, "my-group"), (8, name), (17, start))
    records = [message((1, 1), (21, b"")), message((1, 2), (17, run))]
    for step, values in enumerate(history):
        items = [(1, item(value, *key.split("/"))) for key, value in values.items()]
        records.append(message((1, 3 + step), (2, message(*items, (2, message((1, step)))))))
    if exit_code is not None:
        records.append(message((18, message((1, exit_code)) if exit_code else b"")))
    return records


def write_offline(path: Path, records: Sequence[bytes]) -> Path:
    """The records as the log that LevelDB calls one: pieces that never cross a block of 32 KiB."""
    content = bytearray(b":W&B\xe1\xbe\x00")
    for record in records:
        rest, kinds = record, {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}
        is_first = True
        while is_first or rest:
            left = 32768 - len(content) % 32768
            if left < 7:
                content += bytes(left)
                left = 32768
            piece, rest = rest[: left - 7], rest[left - 7 :]
            typed = bytes([kinds[is_first, not rest]]) + piece
            content += struct.pack("<IH", zlib.crc32(typed), len(piece)) + typed
            is_first = False
    path.write_bytes(content)
    return path
