-- grain: one row per rule_digest, base_id, lever, recipe_digest, stage_position
-- Each stage of a rule on each lever. improvement and passes are NULL while something that the stage needs is missing.
-- bar is in the metric's units here, whatever bar_unit: a bar of 2 panel-sd is 2 times the panel's sd, once it is complete. stacks: the
-- improvement is above the stage's stack_above too, so that no later stage is asked.
-- Improvement and bar are compared after rounding their difference to 1e-9, so 0.3555 - 0.3455 is not more than 0.010.
create view stage_results as
select
    rule, rule_digest, base_id, lever, recipe_digest,
    of.stage_position, of.stage, of.statistic, of.first_seed, of.num_seeds, of.last_seed, result.bar, of.bar_unit,
    result.num_lever, result.num_pairs, result.lever_mean, result.improvement, result.passes, result.stack_above, result.stacks, reason
from (
    select
        rule, rule_digest, base_id, lever, recipe_digest,
        unnest(stages) as of,
        unnest(results) as result,
        unnest(stage_reasons) as reason
    from lever_stages
)
