"""Stages that stack at once, bars in units of a measured sigma, calibrations, and screens.

`rule_stages.stack_above`; `rule_terms`: what a rule seals beside its stages; `calibrations`: a rule's seeds,
statistics and guardrails as they stood before its panel was seen; `screens`: two-level designs, whose rows are runs and
whose effects are weighted sums over them.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

TABLES = {
    "rule_terms": """
        rule_digest text not null, sigma double, sigma_df bigint, rho double, screen_bar double, screen_guard double,
        screen_unit text, design_digest text""",
    "calibrations": "design_digest text not null, design_json text not null",
    "screens": """
        screen text not null, rule_digest text not null, control_digest text not null, cache_id text not null,
        evaluation_id text not null, sigma double not null, sigma_df bigint not null, bar double not null,
        guard double not null, excluded_json text not null, base_id text""",
    "screen_levers": "screen text not null, lever text not null, recipe_digest text not null, position bigint not null",
    "screen_rows": """
        screen text not null, row_name text not null, position bigint not null, seed bigint not null,
        recipe_digest text not null, levers text[] not null""",
    "screen_weights": """
        screen text not null, solution bigint not null, lever text not null, row_name text not null,
        weight double not null""",
}


def upgrade() -> None:
    op.execute("alter table rule_stages add column stack_above double")
    for table, columns in TABLES.items():
        op.execute(f"create table {table} ({columns}, time_us bigint not null, entry bigint)")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"drop table {table}")
    op.execute("alter table rule_stages drop column stack_above")
