-- The numbers that finished runs ended with (step -1), each with the run that it is of.
create view final_metrics as
select
    runs.run_id,
    runs.study,
    runs.lever,
    runs.seed,
    runs.replicate,
    runs.recipe_digest,
    runs.control_digest,
    runs.cache_id,
    runs.evaluation_id,
    metrics.metric,
    metrics.channel,
    metrics.slice,
    metrics.readout,
    metrics.value
from metrics
join runs using (run_id)
join run_states using (run_id)
where run_states.status = 'finished' and metrics.step = -1
