-- The state of each run: what the last line of its journal that tells one says. A process that was killed could write nothing
-- more, so its run stays 'running' until another attempt starts; run_status.last_seen_us tells how long ago it was heard of.
create view run_states as
with
    told as (
        select *, row_number() over (partition by run_id order by position desc) as back
        from events
        where what in ('registered', 'started', 'interrupted', 'finished', 'crashed')
    )
select
    run_id,
    case what when 'started' then 'running' else what end as status,
    detail,
    step,
    time_us as since_us
from told
where back = 1
