"""A stage may begin at a later judged seed, and its bar may be in standard deviations of the panel."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("alter table rule_stages add column first_seed bigint default 1")
    op.execute("alter table rule_stages add column bar_unit text default 'metric'")


def downgrade() -> None:
    op.execute("alter table rule_stages drop column bar_unit")
    op.execute("alter table rule_stages drop column first_seed")
