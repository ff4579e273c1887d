-- grain: one row per tree_digest, phase
-- How far each phase is that has begun: the last thing told of it, the runs that were first told of since it began and before it ended (of
-- any lever: the panel's among them, without exploratory and full-path ones), and the minutes that workers spent on these.
create view phase_states as
with
    told as (
        select
            tree_digest, phase,
            arg_max(what, entry) as state,
            arg_max(why, entry) as why,
            min(entry) filter (what = 'began') as begin_entry,
            max(entry) filter (what = 'ended') as end_entry
        from tree_phases
        group by tree_digest, phase
    ),
    spent as (
        select
            told.tree_digest, told.phase,
            count(distinct told_runs.run_id) as num_runs,
            coalesce(sum(run_times.seconds), 0) / 60 as minutes
        from told
        join told_runs
            on told_runs.entry > told.begin_entry
            and told_runs.entry <= coalesce(told.end_entry, 9223372036854775807)
            and told_runs.purpose is null
        left join run_times on run_times.run_id = told_runs.run_id
        group by told.tree_digest, told.phase
    )
select
    told.tree_digest, told.phase, told.state, told.why,
    coalesce(spent.num_runs, 0) as num_runs,
    coalesce(spent.minutes, 0) as minutes
from told
left join spent on spent.tree_digest = told.tree_digest and spent.phase = told.phase
