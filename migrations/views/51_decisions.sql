-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- What each rule decides of each lever. 'stack': every stage and guardrail passed. 'drop': one of them failed, or a run that a
-- stage needs crashed. Else 'undecided', also for ever where runs are older than the rule or imported: they may be shown, not
-- stacked. outcome is what the decision would be if it were not for that.
-- effect is the improvement at the last stage alone, once that is computed: for the preset fresh, that of the two fresh seeds. Of what
-- is stacked it is flattered, for that stage let through by it.
create view decisions as
select
    rule, rule_digest, base_id, lever, recipe_digest,
    stage_position, stage, first_seed, num_seeds, last_seed, improvement, passes, is_last, effect, outcome, decision, reason
from lever_decisions
