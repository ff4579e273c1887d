-- What each rule wants run next: controls that its panel lacks, and the seeds of the stage that a lever has reached and not
-- failed. status is that of a run of this name and seed that is there and not finished, NULL if there is none.
create view owed_runs as
with
    places as (select distinct control_digest, cache_id, evaluation_id from runs),
    wanted as (
        select
            rules.name as rule,
            rules.rule_digest,
            places.control_digest,
            places.cache_id,
            places.evaluation_id,
            'control' as lever,
            places.control_digest as recipe_digest,
            rule_seeds.seed,
            rule_seeds.position as seed_position,
            'panel' as why
        from rules
        join rule_seeds on rule_seeds.rule_digest = rules.rule_digest and rule_seeds.role = 'panel'
        cross join places
        union all
        select
            reached.rule,
            reached.rule_digest,
            reached.control_digest,
            reached.cache_id,
            reached.evaluation_id,
            reached.lever,
            reached.recipe_digest,
            judged.seed,
            judged.position,
            'stage ' || reached.stage
        from stage_reached as reached
        join rule_seeds as judged
            on judged.rule_digest = reached.rule_digest
            and judged.role = 'judged'
            and judged.position between reached.first_seed and reached.last_seed
        where reached.passes is null
    ),
    unfinished as (
        select runs.*, run_states.status
        from runs
        left join run_states using (run_id)
        where runs.replicate = 0
        qualify row_number() over (
            partition by
                runs.lever, runs.recipe_digest, runs.control_digest, runs.cache_id, runs.evaluation_id, runs.seed
            order by runs.time_us desc, runs.run_id
        ) = 1
    )
select
    wanted.rule, wanted.rule_digest, wanted.control_digest, wanted.cache_id, wanted.evaluation_id, wanted.lever,
    wanted.recipe_digest, wanted.seed, wanted.seed_position, wanted.why, unfinished.status
from wanted
left join unfinished using (lever, recipe_digest, control_digest, cache_id, evaluation_id, seed)
anti join evidence using (lever, recipe_digest, control_digest, cache_id, evaluation_id, seed)
