-- grain: one row per run_id
-- Each run with its state, and whether it is evidence: finished, replicate 0; were one run twice under two ids, the one that came in first.
-- A control is a run of the control recipe itself under the name 'control'; a placebo has that recipe and another name.
-- trained_entry and trained_us tell when its policy's training began: of a scoring, which trains nothing, they are those of the first
-- run that it scores again, or 0 where the ledger does not have that run.
create view told_runs as
with
    scored as (
        select
            tags.run_id,
            min(coalesce(source.entry, 0)) as entry,
            min(coalesce(source.time_us, 0)) as time_us
        from tags
        left join runs as source on source.run_id = tags.value
        where tags.taxonomy = 'scored-from'
        group by tags.run_id
    ),
    told as (
        select
            runs.run_id, runs.base_id, runs.evaluation_id, runs.lever, runs.recipe_digest, runs.seed, runs.replicate, runs.origin,
            runs.entry, runs.time_us,
            least(runs.entry, scored.entry) as trained_entry,
            least(runs.time_us, scored.time_us) as trained_us,
            runs.lever = 'control' and runs.recipe_digest = runs.control_digest as is_control,
            runs.lever <> 'control' and runs.recipe_digest = runs.control_digest as is_placebo,
            run_states.status,
            run_states.step,
            coalesce(run_states.status = 'finished' and runs.replicate = 0, false) as is_whole
        from runs
        left join run_states on run_states.run_id = runs.run_id
        left join scored on scored.run_id = runs.run_id
    ),
    -- Only runs that may have a twin are put in order: hardly any, where all would be half the work of judging them.
    crowded as (
        select hash(base_id, lever, recipe_digest, seed) as place
        from runs
        where replicate = 0
        group by place
        having count(*) > 1
    ),
    twins as (
        select runs.*
        from runs
        semi join crowded on crowded.place = hash(runs.base_id, runs.lever, runs.recipe_digest, runs.seed)
        where runs.replicate = 0
    ),
    later as (
        select twins.run_id
        from twins
        join run_states on run_states.run_id = twins.run_id and run_states.status = 'finished'
        qualify row_number() over (
            partition by twins.base_id, twins.lever, twins.recipe_digest, twins.seed order by twins.entry, twins.run_id
        ) > 1
    )
select told.* exclude (is_whole), is_whole and later.run_id is null as is_evidence
from told
left join later on later.run_id = told.run_id
