-- Each stage of a rule on each lever. improvement and passes are NULL while something that the stage needs is missing.
-- bar is in the metric's units here, whatever bar_unit: a bar of 2 panel-sd is 2 times the panel's sd, once it is complete.
-- Improvement and bar are compared after rounding their difference to 1e-9, so 0.3555 - 0.3455 is not more than 0.010.
create view stage_results as
select
    rule, rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest,
    stage_position, stage, statistic, first_seed, num_seeds, last_seed, bar, bar_unit,
    num_lever, num_pairs, lever_mean, improvement, passes, reason
from lever_stages
