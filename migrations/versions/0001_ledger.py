"""The ledger's first tables: runs and what they said, caches, sealed rules, and how far each journal was read.

Append-only: rows are inserted and never changed, state is what the views make of events. Keys are texts, `time_us` is
microseconds since 1970. `position` is the byte offset of a line in its journal, which orders events without trusting
clocks. No foreign keys and no indexes: journals may be read in any order, and DuckDB scans these tables faster than it
keeps an index.
"""

from alembic import op

revision = "0001"
down_revision = None

TABLES = {
    "runs": """
        run_id text not null, study text not null, lever text not null, seed bigint not null, replicate bigint not null,
        recipe_digest text not null, control_digest text not null, cache_id text not null, evaluation_id text not null,
        evaluation_json text not null, changed_keys text[] not null, hypothesis text not null,
        time_us bigint not null""",
    "run_settings": "run_id text not null, key text not null, value_json text not null",
    "tags": "run_id text not null, taxonomy text not null, value text not null",
    "attempts": """
        run_id text not null, attempt bigint not null, device text not null, cohort_size bigint not null,
        threads bigint not null, pid bigint not null, git_revision text not null, time_us bigint not null""",
    "environments": "run_id text not null, attempt bigint not null, key text not null, value text not null",
    "metrics": """
        run_id text not null, metric text not null, channel text not null, slice text not null, readout text not null,
        step bigint not null, value double not null, time_us bigint not null""",
    "events": """
        journal text not null, position bigint not null, run_id text, what text not null, detail text not null,
        step bigint, time_us bigint not null""",
    "wall_times": "run_id text not null, position bigint not null, phase text not null, seconds double not null",
    "artifacts": """
        run_id text not null, position bigint not null, name text not null, digest text not null,
        num_bytes bigint not null, time_us bigint not null""",
    "caches": """
        cache_id text not null, identity_json text not null, num_train bigint not null, num_val bigint not null,
        val_drives_digest text not null, time_us bigint not null""",
    "rules": """
        rule_digest text not null, name text not null, metric text not null, channel text not null, slice text not null,
        readout text not null, rule_json text not null, time_us bigint not null""",
    "rule_stages": """
        rule_digest text not null, position bigint not null, name text not null, statistic text not null,
        num_seeds bigint not null, bar double not null""",
    "rule_guardrails": """
        rule_digest text not null, position bigint not null, metric text not null, channel text not null,
        slice text not null, readout text not null, margin double not null""",
    "rule_seeds": "rule_digest text not null, role text not null, position bigint not null, seed bigint not null",
    "journals_read": "journal text not null, up_to_offset bigint not null, time_us bigint not null",
    "views_applied": "views_digest text not null, time_us bigint not null",
}


def upgrade() -> None:
    for table, columns in TABLES.items():
        op.execute(f"create table {table} ({columns})")


def downgrade() -> None:
    for table in reversed(TABLES):
        op.execute(f"drop table {table}")
