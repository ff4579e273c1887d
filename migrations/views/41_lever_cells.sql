-- All that a rule knows of a lever, in one row: cells has an entry for each judged seed, in registered order, with NULL where
-- nothing is yet; beside it the panel. Metrics are read here, and the views lever_* form one chain from here on, each naming the
-- one before it once: DuckDB plans and runs a view anew wherever it is named. A list is put in order by list_sort, which takes
-- a fifth of what an ordered aggregate does; its elements begin with their position.
create view lever_cells as
with
    scores as (
        select
            rule_digest,
            run_id,
            any_value(value) filter (position = 0) as value,
            map_from_entries(list((position, value)) filter (position > 0)) as guarded
        from rule_values
        group by rule_digest, run_id
    ),
    scored as materialized (
        select rules.rule_digest, evidence.*, scores.value, scores.guarded
        from evidence
        cross join rules
        left join scores on scores.rule_digest = rules.rule_digest and scores.run_id = evidence.run_id
    ),
    panels as (
        select
            rule_digest, control_digest, cache_id, evaluation_id,
            any_value(panel_mean) filter (position = 0) as panel_mean,
            any_value(panel_sd) filter (position = 0) as panel_sd,
            any_value(panel_count) filter (position = 0) as panel_count,
            bool_or(is_complete and position = 0) as panel_is_complete,
            map_from_entries(list((position, panel_mean)) filter (is_complete and position > 0)) as panel_guarded
        from panel_stats
        group by rule_digest, control_digest, cache_id, evaluation_id
    ),
    filled as (
        select
            lever.rule, lever.rule_digest, lever.control_digest, lever.cache_id, lever.evaluation_id,
            lever.lever, lever.recipe_digest,
            list_sort(list(
                {
                    'position': judged.position,
                    'seed': judged.seed,
                    'is_finished': run.run_id is not null,
                    'lever_value': run.value,
                    'control_value': control.value,
                    'guarded': run.guarded
                }
            )) as cells
        from judged_levers as lever
        join rule_seeds as judged on judged.rule_digest = lever.rule_digest and judged.role = 'judged'
        left join scored as run
            on run.rule_digest = lever.rule_digest
            and run.lever = lever.lever
            and run.recipe_digest = lever.recipe_digest
            and run.control_digest = lever.control_digest
            and run.cache_id = lever.cache_id
            and run.evaluation_id = lever.evaluation_id
            and run.seed = judged.seed
        left join scored as control
            on control.is_control
            and control.rule_digest = lever.rule_digest
            and control.control_digest = lever.control_digest
            and control.cache_id = lever.cache_id
            and control.evaluation_id = lever.evaluation_id
            and control.seed = judged.seed
        group by all
    )
select
    filled.*,
    panels.panel_mean,
    panels.panel_sd,
    coalesce(panels.panel_count, 0) as panel_count,
    coalesce(panels.panel_is_complete, false) as panel_is_complete,
    panels.panel_guarded
from filled
left join panels using (rule_digest, control_digest, cache_id, evaluation_id)
