-- grain: one row per rule_digest, base_id, lever, recipe_digest, slice, baseline
-- Where a policy is worse than what needs none: the mean over seeds of the rule's primary metric and channel, on every slice, beside the
-- baseline's there; not of a screen's rows, which are no policies to keep. A policy that does not beat these has learnt nothing on such frames.
create view worse_than_baselines as
select
    rules.name as rule, rules.rule_digest, final.base_id, final.lever, final.recipe_digest, final.slice,
    baselines.readout as baseline,
    count(*) as num_seeds,
    avg(final.value) as value,
    any_value(baselines.value) as baseline_value
from rules
join final_metrics as final
    on final.metric = rules.metric and final.channel = rules.channel and final.readout = rules.readout and final.drive = ''
semi join evidence on evidence.run_id = final.run_id
anti join screen_rows as rows on rows.row_name = final.lever and rows.recipe_digest = final.recipe_digest
join baselines
    on baselines.base_id = final.base_id
    and baselines.metric = final.metric
    and baselines.channel = final.channel
    and baselines.slice = final.slice
    and baselines.drive = ''
where abs(final.value) < 1e70
group by rules.name, rules.rule_digest, rules.direction, final.base_id, final.lever, final.recipe_digest, final.slice, baselines.readout
having if(rules.direction = 'higher', -1, 1) * (avg(final.value) - any_value(baselines.value)) > 0
