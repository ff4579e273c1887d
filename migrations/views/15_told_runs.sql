-- grain: one row per run_id
-- Each run with its state, and whether it is evidence: finished, replicate 0; were one run twice under two ids, the one that came in first.
-- A run with a purpose of its own (exploratory, full-path) is none: no rule looks at it.
-- A control is a run of the control recipe itself under the name 'control'; a placebo has that recipe and another name.
-- trained_entry and trained_us tell when its policy's training began: of a scoring, which trains nothing, they are those of the first
-- run that it scores again, or 0 where the ledger does not have that run.
create view told_runs as
with
    tagged as (
        select
            tags.run_id,
            min(tags.value) filter (tags.taxonomy = 'purpose') as purpose,
            min(coalesce(source.entry, 0)) filter (tags.taxonomy = 'scored-from') as entry,
            min(coalesce(source.time_us, 0)) filter (tags.taxonomy = 'scored-from') as time_us
        from tags
        left join runs as source on source.run_id = tags.value
        where tags.taxonomy in ('scored-from', 'purpose')
        group by tags.run_id
    ),
    told as (
        select
            runs.run_id, runs.base_id, runs.evaluation_id, runs.lever, runs.recipe_digest, runs.seed, runs.replicate, runs.origin,
            runs.entry, runs.time_us, tagged.purpose,
            least(runs.entry, tagged.entry) as trained_entry,
            least(runs.time_us, tagged.time_us) as trained_us,
            runs.lever = 'control' and runs.recipe_digest = runs.control_digest as is_control,
            runs.lever <> 'control' and runs.recipe_digest = runs.control_digest as is_placebo,
            run_states.status,
            run_states.step,
            coalesce(run_states.status = 'finished' and runs.replicate = 0 and tagged.purpose is null, false) as is_whole
        from runs
        left join run_states on run_states.run_id = runs.run_id
        left join tagged on tagged.run_id = runs.run_id
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
        anti join tags on tags.run_id = runs.run_id and tags.taxonomy = 'purpose'
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
