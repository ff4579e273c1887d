-- grain: one row per rule_digest, base_id, lever, recipe_digest, position
-- Each guardrail on each lever: its mean over all judged seeds up to the stage reached may exceed the panel's by the margin at
-- most. passes is NULL while a run or the panel is missing. Compared after rounding to 1e-9, as in stage_results.
create view guardrail_results as
select
    rule, rule_digest, base_id, lever, recipe_digest, last_seed as num_seeds,
    of.position, of.metric, of.channel, of.slice, of.drive, of.readout, of.margin,
    result.num_lever, result.lever_mean, result.panel_mean, result.excess, passes, reason
from (
    select
        rule, rule_digest, base_id, lever, recipe_digest, last_seed,
        unnest(guards) as of,
        unnest(guard_results) as result,
        unnest(guard_passes) as passes,
        unnest(guard_reasons) as reason
    from lever_guards
)
