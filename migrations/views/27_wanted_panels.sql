-- grain: one row per rule_digest, base_id
-- The controls that each rule's panel lacks wherever it wants runs, in one list: not run, or not finished. One that crashed is
-- not tried again, so its panel will never be complete: the others are not asked for either, and crashed names it. A rule that was amended
-- away asks for none.
create view wanted_panels as
with
    done as (
        select runs.base_id, runs.seed, run_states.status
        from runs
        join run_states on run_states.run_id = runs.run_id
        anti join tags on tags.run_id = runs.run_id and tags.taxonomy = 'purpose'
        where
            run_states.status in ('finished', 'crashed') and runs.replicate = 0
            and runs.lever = 'control' and runs.recipe_digest = runs.control_digest
    ),
    lacking as (
        select
            wanted.rule, wanted.rule_digest, wanted.base_id, wanted.control_digest,
            panel_seeds.position, panel_seeds.seed,
            amendments.rule_digest is null and done.seed is null as is_owed,
            coalesce(done.status = 'crashed', false) as has_crashed
        from wanted_bases as wanted
        join panel_seeds on panel_seeds.rule_digest = wanted.rule_digest
        left join amendments on amendments.amended_digest = wanted.rule_digest
        left join done on done.base_id = wanted.base_id and done.seed = panel_seeds.seed
    )
select
    rule, rule_digest, base_id, control_digest,
    if(
        bool_or(has_crashed),
        [],
        coalesce(list_sort(list(distinct {'position': position, 'seed': seed}) filter (is_owed)), [])
    ) as owed,
    coalesce(list_sort(list(distinct seed) filter (has_crashed)), []) as crashed
from lacking
group by rule, rule_digest, base_id, control_digest
