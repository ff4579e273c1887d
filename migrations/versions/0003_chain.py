"""The chain of entries, and what a rule says about whom it judges.

Every row belongs to one entry: one line of the study's journal, which is a decision or says which part of a run's
journal is read next. `chain` holds a digest of the entry's rows and a hash that takes the entry before it in, so
`flowlab ledger verify` finds the first one that does not fit. `views_applied` loses its time: nothing else of it could
be told from a change.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

EARLIER = (
    "runs", "run_settings", "tags", "attempts", "environments", "metrics", "events", "wall_times", "artifacts",
    "caches", "rules", "rule_stages", "rule_guardrails", "rule_seeds", "journals_read",
)  # fmt: skip

TABLES = {
    "chain": """
        entry bigint not null, kind text not null, subject text not null, position bigint not null,
        source_digest text not null, rows_digest text not null, hash text not null, time_us bigint not null""",
    "bases": """
        control_digest text not null, cache_id text not null, evaluation_id text not null, stacked text[] not null,
        recipe_json text not null, time_us bigint not null, entry bigint""",
    "amendments": """
        rule_digest text not null, amended_digest text not null, reason text not null, time_us bigint not null,
        entry bigint""",
    "stacks": """
        lever text not null, recipe_digest text not null, rule_digest text not null, control_digest text not null,
        cache_id text not null, evaluation_id text not null, changes_json text not null,
        new_control_digest text not null, replicate_seed bigint not null, effect double not null, time_us bigint not
        null, entry bigint""",
    "recorded_verdicts": """
        rule_digest text not null, control_digest text not null, cache_id text not null, evaluation_id text not null,
        lever text not null, recipe_digest text not null, decision text not null, effect double, reason text not null,
        time_us bigint not null, entry bigint""",
}


def upgrade() -> None:
    for table in EARLIER:
        op.execute(f"alter table {table} add column entry bigint")
    op.execute("alter table runs add column origin text")  # NULL: trained here; else what it was imported from
    for column in (
        "direction text default 'lower'",
        "evaluation_id text",
        "evaluation_json text",
        "simulated_json text",
    ):
        op.execute(f"alter table rules add column {column}")  # evaluation_id NULL: sealed before rules named one
    op.execute("alter table rule_guardrails add column direction text default 'lower'")
    op.execute("drop table views_applied")
    op.execute("create table views_applied (views_digest text not null)")
    for table, columns in TABLES.items():
        op.execute(f"create table {table} ({columns})")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"drop table {table}")
    op.execute("drop table views_applied")
    op.execute("create table views_applied (views_digest text not null, time_us bigint not null)")
    op.execute("alter table rule_guardrails drop column direction")
    for column in ("simulated_json", "evaluation_json", "evaluation_id", "direction"):
        op.execute(f"alter table rules drop column {column}")
    op.execute("alter table runs drop column origin")
    for table in EARLIER:
        op.execute(f"alter table {table} drop column entry")
