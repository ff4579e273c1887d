"""The loop's tree and how far its phases are, notes and tags of people, and wall times by attempt.

`trees`: the phases that `flowlab loop` goes through, as they were registered; `tree_phases`: each one's begin and end.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

TABLES = {
    "trees": "tree_digest text not null, tree_json text not null, amended_digest text, reason text",
    "tree_phases": "tree_digest text not null, phase text not null, what text not null, why text not null",
    "notes": "about text not null, subject text not null, note text not null",
    "said_tags": "about text not null, subject text not null, taxonomy text not null, value text not null",
}


def upgrade() -> None:
    op.execute("alter table wall_times add column attempt bigint")
    for table, columns in TABLES.items():
        op.execute(f"create table {table} ({columns}, time_us bigint not null, entry bigint)")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"drop table {table}")
    op.execute("alter table wall_times drop column attempt")
