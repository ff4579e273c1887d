-- grain: one row per rule_digest, position
-- The metrics that a rule looks at: its primary one at position 0, its guardrails from 1 on.
create view rule_metrics as
select
    rule_digest, name as rule, 'primary' as role, 0 as position, metric, channel, slice, drive, readout, null as margin, number_key
from rules
union all
select
    guard.rule_digest,
    rules.name,
    'guardrail',
    guard.position,
    guard.metric,
    guard.channel,
    guard.slice,
    guard.drive,
    guard.readout,
    guard.margin,
    guard.number_key
from rule_guardrails as guard
join rules on rules.rule_digest = guard.rule_digest
