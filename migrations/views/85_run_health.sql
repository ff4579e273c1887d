-- grain: one row per run_id, metric
-- How each run's error on the validation frames went while it trained (flow_mse, or a regression's chunk_mse): where it was least, and where
-- it ended. is_past_best: the least was before two thirds of the steps, and the last is more than 5% above it, so that the run has learnt past
-- its best. Steps are those of its recipe, or the last one seen where no recipe says.
create view run_health as
with
    validated as (
        select run_id, metric, step, value, min(value) over (partition by run_id, metric) as best_value
        from metrics
        where
            step >= 0 and slice = 'overall' and drive = '' and channel = '' and readout = ''
            and not starts_with(metric, 'law_') and abs(value) < 1e70
    ),
    found as (
        select
            run_id,
            metric,
            min(step) filter (value = best_value) as best_step,
            any_value(best_value) as best_value,
            max(step) as last_step,
            arg_max(value, step) as last_value
        from validated
        group by run_id, metric
    )
select
    runs.run_id,
    runs.base_id,
    runs.lever,
    runs.recipe_digest,
    runs.seed,
    runs.replicate,
    found.metric,
    coalesce(try_cast(settings.value_json as bigint), found.last_step) as num_steps,
    found.best_step,
    found.best_value,
    found.last_step,
    found.last_value,
    3 * best_step < 2 * num_steps and last_value > 1.05 * best_value as is_past_best
from found
join runs on runs.run_id = found.run_id
left join run_settings as settings on settings.run_id = found.run_id and settings.key = 'train.steps'
