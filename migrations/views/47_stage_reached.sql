-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- The stage that each lever has got to: the first that it has not passed, or the last one. reason tells of all up to it.
create view stage_reached as
select
    rule, rule_digest, base_id, lever, recipe_digest,
    stage_position, stage, first_seed, num_seeds, last_seed, improvement, passes, is_last, reason
from lever_reached
