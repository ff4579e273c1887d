-- grain: one row per run_id, attempt, phase
-- Each run's share of its workers' wall time, in seconds: their sum over all runs is what the workers took. Journals of earlier versions have
-- the seconds of the whole cohort, once, of the attempt that ended the run: here its share too.
create view run_times as
with
    last_attempts as (
        select run_id, max(attempt) as attempt, arg_max(cohort_size, attempt) as cohort_size from attempts group by run_id
    )
select
    wall.run_id,
    coalesce(wall.attempt, last_attempts.attempt, 0) as attempt,
    wall.phase,
    sum(if(wall.attempt is null, wall.seconds / greatest(coalesce(last_attempts.cohort_size, 1), 1), wall.seconds)) as seconds
from wall_times as wall
left join last_attempts on last_attempts.run_id = wall.run_id
group by all
