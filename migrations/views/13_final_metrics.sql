-- grain: one row per run_id, metric, channel, slice, drive, readout
-- The numbers that finished runs ended with (step -1), each with the run that it is of. cache_id is what that run was trained from: a
-- lever's may be another than its control's.
create view final_metrics as
select
    runs.run_id,
    runs.study,
    runs.lever,
    runs.seed,
    runs.replicate,
    runs.recipe_digest,
    runs.base_id,
    runs.cache_id,
    metrics.metric,
    metrics.channel,
    metrics.slice,
    metrics.drive,
    metrics.readout,
    metrics.value
from metrics
join runs on runs.run_id = metrics.run_id
join run_states on run_states.run_id = runs.run_id
where run_states.status = 'finished' and metrics.step = -1
