-- grain: one row per rule_digest, position, run_id
-- The value of each run in evidence on each metric of each rule.
create view judged_values as
select
    rule_values.rule,
    rule_values.rule_digest,
    rule_values.role,
    rule_values.position,
    evidence.*,
    rule_values.value
from rule_values
join evidence on evidence.run_id = rule_values.run_id
