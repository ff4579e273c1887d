-- grain: one row per rule_digest, base_id, lever, recipe_digest, seed
-- Lever and control at one seed on the rule's primary metric, with the lever's family: the first tag that its first run
-- was given. A lever without tags is in the family ''. Tags are rows in the order in which they were written, so the
-- first has the least rowid.
create view family_pairs as
with
    families as (
        select
            runs.lever,
            runs.recipe_digest,
            runs.control_digest,
            arg_min(tags.value, row(runs.entry, runs.run_id, tags.rowid)) as family
        from runs
        join tags on tags.run_id = runs.run_id and tags.taxonomy = 'levers' and tags.value <> runs.lever
        group by all
    ),
    based as (select distinct base_id, control_digest from runs)
select
    lever.rule,
    lever.rule_digest,
    lever.base_id,
    coalesce(families.family, '') as family,
    lever.lever,
    lever.recipe_digest,
    lever.seed,
    lever.value as lever_value,
    control.value as control_value
from judged_values as lever
join judged_values as control
    on control.rule_digest = lever.rule_digest
    and control.role = 'primary'
    and control.is_control
    and control.base_id = lever.base_id
    and control.seed = lever.seed
join based on based.base_id = lever.base_id
left join families
    on families.lever = lever.lever
    and families.recipe_digest = lever.recipe_digest
    and families.control_digest = based.control_digest
where lever.role = 'primary' and lever.lever <> 'control' and not lever.is_placebo
