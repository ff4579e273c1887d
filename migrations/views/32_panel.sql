-- grain: one row per rule_digest, base_id, position, seed
-- The control runs that a rule measures levers against: one row a panel seed and metric of the rule.
create view panel as
select
    judged_values.rule,
    judged_values.rule_digest,
    judged_values.base_id,
    judged_values.role,
    judged_values.position,
    judged_values.seed,
    judged_values.run_id,
    judged_values.value
from judged_values
join panel_seeds
    on panel_seeds.rule_digest = judged_values.rule_digest
    and panel_seeds.seed = judged_values.seed
where judged_values.is_control
