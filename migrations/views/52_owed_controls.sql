-- The controls that the panel of a rule in force lacks: not run, or not finished. One that crashed is not tried again.
create view owed_controls as
select
    places.rule,
    places.rule_digest,
    places.control_digest,
    places.cache_id,
    places.evaluation_id,
    rule_seeds.seed,
    rule_seeds.position as seed_position
from places
semi join rules_in_force on rules_in_force.rule_digest = places.rule_digest
join rule_seeds on rule_seeds.rule_digest = places.rule_digest and rule_seeds.role = 'panel'
anti join (
    select runs.*
    from runs
    join run_states using (run_id)
    where
        run_states.status in ('finished', 'crashed') and runs.replicate = 0
        and runs.lever = 'control' and runs.recipe_digest = runs.control_digest
) as done
    on done.control_digest = places.control_digest
    and done.cache_id = places.cache_id
    and done.evaluation_id = places.evaluation_id
    and done.seed = rule_seeds.seed
