-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- How far each lever has got under each rule: for stage_reached, guardrail_results, owed_runs and decisions.
create view lever_reached as
with
    -- The first stage that is not passed, or the last one.
    placed as (
        select
            *,
            coalesce(list_position([coalesce(of.passes, false) for of in stages], false), len(stages)) as reached_position,
            stages[reached_position] as reached
        from lever_stages
    )
select
    rule, rule_digest, base_id, lever, recipe_digest, seeds, guarded, panel, guarded_panel, doubts,
    reached.stage_position, reached.stage, reached.first_seed, reached.num_seeds, reached.last_seed,
    reached.improvement, reached.passes,
    -- What is missing of the stage: nothing of one that was decided, nor a run that finished without the metric.
    [
        pair for pair in seeds[reached.first_seed : reached.last_seed]
        if reached.passes is null and not pair.is_finished
    ] as owed,
    reached_position = len(stages) as is_last,
    array_to_string([of.reason for of in stages[:reached_position]], '; ') as reason
from placed
