-- What each rule wants run next, on the newest base: controls that its panel lacks, the seeds of the stage that a lever has reached
-- and not failed, and one run of each new base (replicate). status is that of a run of this name and seed that is there and not
-- finished, NULL if there is none.
create view owed_runs as
with
    wanted as (
        select
            rule, rule_digest, control_digest, cache_id, evaluation_id,
            'control' as lever, control_digest as recipe_digest, seed, seed_position, 'panel' as why
        from owed_controls
        union all
        select
            decided.rule, decided.rule_digest, decided.control_digest, decided.cache_id, decided.evaluation_id,
            decided.lever, decided.recipe_digest, decided.cell.seed, decided.cell.position, 'stage ' || decided.stage
        from (
            select *, unnest(owed) as cell
            from lever_decisions
            where outcome = 'undecided' and not is_barred
        ) as decided
        semi join places using (rule_digest, control_digest, cache_id, evaluation_id)
        union all
        select
            places.rule, places.rule_digest, places.control_digest, places.cache_id, places.evaluation_id,
            'control', places.control_digest, stacks.replicate_seed, 0, 'replicate'
        from stacks
        join places
            on places.rule_digest = stacks.rule_digest
            and places.control_digest = stacks.new_control_digest
            and places.cache_id = stacks.cache_id
            and places.evaluation_id = stacks.evaluation_id
        anti join evidence
            on evidence.is_control
            and evidence.control_digest = places.control_digest
            and evidence.cache_id = places.cache_id
            and evidence.evaluation_id = places.evaluation_id
            and evidence.seed = stacks.replicate_seed
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
where unfinished.status is distinct from 'crashed'
qualify row_number() over (
    partition by
        wanted.rule_digest, wanted.control_digest, wanted.cache_id, wanted.evaluation_id, wanted.lever,
        wanted.recipe_digest, wanted.seed
    order by wanted.why = 'replicate' desc
) = 1
