-- grain: one row per rule_digest, position, run_id
-- The value of each run in evidence on each metric of each rule. A value beyond 1e70 is left out, for no spread of such can be told: its
-- square is out of range, which DuckDB 1 answers by an error and DuckDB 2 by a NaN, and a NaN is more than any bound.
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
where abs(rule_values.value) < 1e70
