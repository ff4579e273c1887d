-- grain: one row per entry
-- What each stacked lever is worth at seeds that nothing selected it by: mean of (base before it - base after it) over the new seeds at
-- which both are there, above 0 is better, with its standard error from the differences themselves.
create view stack_effects as
with controls as (
    select rule_digest, base_id, seed, value from judged_values where role = 'primary' and is_control
)
select
    effect_seeds.entry,
    effect_seeds.lever,
    effect_seeds.rule_digest,
    effect_seeds.base_id,
    effect_seeds.new_base_id,
    list(effect_seeds.seed order by effect_seeds.seed) filter (where before.value is not null and after.value is not null) as seeds,
    count(before.value - after.value) as num_pairs,
    any_value(if(rules.direction = 'higher', -1, 1)) * avg(before.value - after.value) as effect,
    stddev_samp(before.value - after.value) / sqrt(count(before.value - after.value)) as se
from effect_seeds
join rules on rules.rule_digest = effect_seeds.rule_digest
left join controls as before
    on before.rule_digest = effect_seeds.rule_digest
    and before.base_id = effect_seeds.base_id
    and before.seed = effect_seeds.seed
left join controls as after
    on after.rule_digest = effect_seeds.rule_digest
    and after.base_id = effect_seeds.new_base_id
    and after.seed = effect_seeds.seed
group by effect_seeds.entry, effect_seeds.lever, effect_seeds.rule_digest, effect_seeds.base_id, effect_seeds.new_base_id
