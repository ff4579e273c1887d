-- grain: one row per base_id, lever, recipe_digest, seed
-- The runs that rules look at: finished, replicate 0; were one run twice under two ids, the one that came in first.
-- A control is a run of the control recipe itself under the name 'control'; a placebo has that recipe and another name.
create view evidence as
select
    min_by(runs.run_id, (runs.entry, runs.time_us, runs.run_id)) as run_id,
    runs.base_id,
    runs.lever,
    runs.recipe_digest,
    runs.seed,
    runs.lever = 'control' and runs.recipe_digest = runs.control_digest as is_control,
    runs.lever <> 'control' and runs.recipe_digest = runs.control_digest as is_placebo
from runs
join run_states on run_states.run_id = runs.run_id
where run_states.status = 'finished' and runs.replicate = 0
group by all
