-- grain: one row per entry
-- Each lever that went into the base, and what the base that it made scored since: at the seed of its replicate, and on the mean of
-- its own panel, beside the panel mean that the lever was stacked against. Improvements above 0 are better.
create view stack_replicates as
select
    stacks.entry,
    stacks.lever,
    rules.name as rule,
    stacks.rule_digest,
    stacks.base_id,
    stacks.new_base_id,
    stacks.effect as effect_when_stacked,
    stacks.replicate_seed,
    replicate.value as replicate_value,
    old.panel_mean as old_panel_mean,
    if(rules.direction = 'higher', -1, 1) * (old.panel_mean - replicate.value) as replicate_improvement,
    new.panel_mean as new_panel_mean,
    if(rules.direction = 'higher', -1, 1) * (old.panel_mean - new.panel_mean) as panel_improvement,
    coalesce(new.is_complete, false) as new_panel_is_complete
from stacks
join rules on rules.rule_digest = stacks.rule_digest
left join judged_values as replicate
    on replicate.rule_digest = stacks.rule_digest
    and replicate.role = 'primary'
    and replicate.is_control
    and replicate.base_id = stacks.new_base_id
    and replicate.seed = stacks.replicate_seed
left join panel_stats as old
    on old.rule_digest = stacks.rule_digest
    and old.role = 'primary'
    and old.base_id = stacks.base_id
left join panel_stats as new
    on new.rule_digest = stacks.rule_digest
    and new.role = 'primary'
    and new.base_id = stacks.new_base_id
