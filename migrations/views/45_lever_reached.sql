-- How far each lever has got under each rule, in one row: for stage_reached, guardrail_results, owed_runs and decisions.
create view lever_reached as
with
    told as (
        select
            rule, rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest,
            list_sort(list({
                'stage_position': stage_position, 'stage': stage, 'first_seed': first_seed, 'num_seeds': num_seeds,
                'last_seed': last_seed, 'improvement': improvement, 'passes': passes
            })) as stages,
            list_sort(list({'stage_position': stage_position, 'reason': reason})) as reasons,
            any_value(cells) as cells,
            any_value(panel_mean) as panel_mean,
            any_value(panel_sd) as panel_sd,
            any_value(panel_count) as panel_count,
            any_value(panel_guarded) as panel_guarded
        from lever_stages
        group by all
    ),
    -- The first stage that is not passed, or the last one.
    placed as (
        select
            *,
            coalesce(list_position([coalesce(stage.passes, false) for stage in stages], false), len(stages)) as place,
            stages[place] as reached
        from told
    )
select
    * exclude (stages, reasons, place, reached),
    reached.*,
    -- What is missing of the stage: nothing of one that was decided, nor a run that finished without the metric.
    [
        cell for cell in cells[reached.first_seed : reached.last_seed]
        if reached.passes is null and not cell.is_finished
    ] as owed,
    place = len(stages) as is_last,
    array_to_string([told.reason for told in reasons[:place]], '; ') as reason
from placed
