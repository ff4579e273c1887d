-- grain: one row per rule_digest, base_id, seed
-- The controls that the panel of a rule in force lacks.
create view owed_controls as
select rule, rule_digest, base_id, control_digest as recipe_digest, control.seed, control.position as seed_position
from (select *, unnest(owed) as control from wanted_panels)
