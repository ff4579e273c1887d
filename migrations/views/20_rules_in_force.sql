-- grain: one row per rule_digest
-- The sealed rules that no amendment has replaced; one at most, unless an early flowlab sealed more.
create view rules_in_force as
select rules.rule_digest, rules.name as rule, rules.evaluation_id, rules.rule_json, rules.time_us as since_us, rules.entry
from rules
anti join amendments on amendments.amended_digest = rules.rule_digest
