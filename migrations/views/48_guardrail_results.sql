-- Each guardrail on each lever: its mean over all judged seeds up to the stage reached may exceed the panel's by the margin at
-- most. passes is NULL while a run or the panel is missing. Compared after rounding to 1e-9, as in stage_results.
create view guardrail_results as
select
    rule, rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest, last_seed as num_seeds,
    guard_position as position, metric, channel, slice, readout, margin, num_lever,
    lever_mean, guard_panel_mean as panel_mean, excess, guard_passes as passes, guard_reason as reason
from lever_guards
where guard_position is not null
