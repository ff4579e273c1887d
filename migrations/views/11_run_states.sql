-- grain: one row per run_id
-- The state of each run: what the last line of its journal that tells one says. A process that was killed could write nothing
-- more, so its run stays 'running' until another attempt starts; run_status.last_seen_us tells how long ago it was heard of.
create view run_states as
with
    told as (
        -- One struct, since max_by would pass over a row whose step is NULL.
        select
            run_id,
            max_by({'what': what, 'detail': detail, 'step': step, 'time_us': time_us}, position) as final
        from events
        where what in ('registered', 'started', 'interrupted', 'finished', 'crashed')
        group by run_id
    )
select
    run_id,
    case final.what when 'started' then 'running' else final.what end as status,
    final.detail,
    final.step,
    final.time_us as since_us
from told
