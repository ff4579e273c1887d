"""One name for what runs are compared on, a drive beside the slice, and the study's encoders.

`base_id` stands for a control and an evaluation. A metric's drive was part of its slice's name (drive:ID, or
SLICE:drive:ID) and has a column of its own. `number_key` names a number of a run in 64 bits, for rules to find theirs
by. `encoders` says which frozen encoder is the study's.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

BASE_ID = "left(sha256({control} || ' ' || evaluation_id), 16)"
NUMBER_KEY = """(md5_number_lower(metric) >> 48 << 48) + (md5_number_lower(concat(
    length(metric), ':', metric, length(channel), ':', channel, length(slice), ':', slice, length(drive), ':', drive,
    length(readout), ':', readout)) >> 16)"""
SLICED = ("metrics", "rules", "rule_guardrails")
BASED = ("runs", "bases", "stacks", "recorded_verdicts")

ENCODERS = """
    encoder_key text not null, encoder_digest text not null, file_name text not null, train_drives text[] not null,
    settings_json text not null, time_us bigint not null, entry bigint"""


def upgrade() -> None:
    for table in SLICED:
        op.execute(f"alter table {table} add column drive text default ''")
        op.execute(f"alter table {table} add column number_key ubigint")
    for table in BASED:
        op.execute(f"alter table {table} add column base_id text")
    op.execute("alter table stacks add column new_base_id text")
    op.execute("alter table bases add column thresholds_json text")
    op.execute(f"create table encoders ({ENCODERS})")
    for table in SLICED:
        op.execute(
            f"update {table} set slice = 'overall', drive = slice[7:] where starts_with(slice, 'drive:')"  # from 1 on
        )
        op.execute(
            f"update {table} set slice = split_part(slice, ':drive:', 1), "
            f"drive = slice[instr(slice, ':drive:') + 7:] where contains(slice, ':drive:')"
        )
        op.execute(f"update {table} set number_key = {NUMBER_KEY}")
    for table in BASED:
        op.execute(f"update {table} set base_id = {BASE_ID.format(control='control_digest')}")
    op.execute(f"update stacks set new_base_id = {BASE_ID.format(control='new_control_digest')}")


def downgrade() -> None:
    for table in SLICED:
        op.execute(f"update {table} set slice = slice || ':drive:' || drive where drive <> '' and slice <> 'overall'")
        op.execute(f"update {table} set slice = 'drive:' || drive where drive <> '' and slice = 'overall'")
        op.execute(f"alter table {table} drop column number_key")
        op.execute(f"alter table {table} drop column drive")
    op.execute("drop table encoders")
    op.execute("alter table bases drop column thresholds_json")
    op.execute("alter table stacks drop column new_base_id")
    for table in BASED:
        op.execute(f"alter table {table} drop column base_id")
