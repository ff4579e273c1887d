-- grain: one row per run_id
-- The state of each run: what the last line of its journal that tells one says. A process that was killed could write nothing
-- more, so its run stays 'running' until another attempt starts; run_status.last_seen_us tells how long ago it was heard of.
create view run_states as
with
    told as (
        -- arg_max_null, since arg_max would pass over a row whose step is NULL.
        select
            run_id,
            arg_max(what, position) as what,
            arg_max(detail, position) as detail,
            arg_max_null(step, position) as step,
            arg_max(time_us, position) as time_us
        from events
        where what in ('registered', 'started', 'interrupted', 'finished', 'crashed')
        group by run_id
    )
select
    run_id,
    case what when 'started' then 'running' else what end as status,
    detail,
    step,
    time_us as since_us
from told
