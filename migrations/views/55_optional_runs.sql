-- grain: one row per rule_digest, base_id, lever, recipe_digest, seed
-- Runs that no rule needs, and that tell what a stacked lever is worth (stack_effects): the control at new seeds, of the base before the stack
-- and of the one after it. `flowlab run --owed --optional` launches them. The columns are those of owed_runs.
create view optional_runs as
with
    sides as (
        select entry, lever, rule_digest, base_id, control_digest, seed from effect_seeds
        union all
        select entry, lever, rule_digest, new_base_id, new_control_digest, seed from effect_seeds
    ),
    done as (
        select told_runs.base_id, told_runs.seed, told_runs.status
        from told_runs
        where told_runs.is_control and told_runs.replicate = 0
    )
select
    rules.name as rule,
    sides.rule_digest,
    sides.base_id,
    'control' as lever,
    sides.control_digest as recipe_digest,
    sides.seed,
    0 as seed_position,
    'effect of ' || string_agg(distinct sides.lever, ', ' order by sides.lever) as why,
    any_value(done.status) as status
from sides
join rules on rules.rule_digest = sides.rule_digest
left join done on done.base_id = sides.base_id and done.seed = sides.seed
group by rules.name, sides.rule_digest, sides.base_id, sides.control_digest, sides.seed
having coalesce(bool_and(done.status is null or done.status not in ('finished', 'crashed')), true)
