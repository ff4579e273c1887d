-- grain: one row per rule_digest, base_id, lever, recipe_digest, position
-- Each guardrail on each lever: its mean over all judged seeds up to the stage reached may exceed the panel's by the margin at
-- most. passes is NULL while a run or the panel is missing. Compared after rounding to 1e-9, as in stage_results.
create view guardrail_results as
select
    rule, rule_digest, base_id, lever, recipe_digest, last_seed as num_seeds,
    of.position, of.metric, of.channel, of.slice, of.drive, of.readout, of.margin, of.num_lever,
    of.lever_mean, of.panel_mean, of.excess, of.passes, of.reason
from (select *, unnest(guards) as of from lever_guards)
