-- grain: one row per run_id
-- One row a run: its state, how often it was started, the last step seen, when it was last heard of.
create view run_status as
with
    starts as (select run_id, count(*) as num_attempts from attempts group by run_id),
    numbers as (
        select run_id, max(step) filter (where step >= 0) as last_step, max(time_us) as time_us from metrics group by run_id
    ),
    happened as (select run_id, max(step) as step, max(time_us) as time_us from events group by run_id)
select
    runs.run_id,
    runs.lever,
    runs.seed,
    runs.replicate,
    coalesce(run_states.status, 'registered') as status,
    case when run_states.status = 'crashed' then run_states.detail end as reason,
    coalesce(starts.num_attempts, 0) as num_attempts,
    greatest(numbers.last_step, happened.step) as last_step,
    runs.time_us as registered_us,
    greatest(runs.time_us, numbers.time_us, happened.time_us) as last_seen_us
from runs
left join run_states using (run_id)
left join starts using (run_id)
left join numbers using (run_id)
left join happened using (run_id)
