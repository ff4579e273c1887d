-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- How far each lever has got under each rule: for stage_reached, guardrail_results, owed_runs and decisions. A rule that confirms the levers
-- of a screen asks that first: one that it did not send on has got to the stage 'screen', of no seeds, and is owed nothing.
create view lever_reached as
with
    placed as (
        select
            *,
            is_screened and not coalesce(screened.goes_on, false) as is_in_screen,
            stages[reached_position] as reached,
            results[reached_position] as result
        from lever_stages
    )
select
    rule, rule_digest, base_id, lever, recipe_digest, seeds, guarded, panel, guarded_panel, doubts,
    if(is_in_screen, 0, reached.stage_position) as stage_position,
    if(is_in_screen, 'screen', reached.stage) as stage,
    if(is_in_screen, 0, reached.first_seed) as first_seed,
    if(is_in_screen, 0, reached.num_seeds) as num_seeds,
    if(is_in_screen, 0, reached.last_seed) as last_seed,
    if(is_in_screen, screened.effect, result.improvement) as improvement,
    if(is_in_screen, screened.goes_on, result.passes) as passes,
    -- What is missing of the stage: nothing of one that was decided, nor a run that finished without the metric.
    [
        pair for pair in seeds[reached.first_seed : reached.last_seed]
        if result.passes is null and not pair.is_finished and not is_in_screen
    ] as owed,
    not is_in_screen and (reached_position = len(stages) or result.stacks) as is_last,
    concat_ws(
        '; ',
        if(is_screened, coalesce(screened.reason, 'no screen has sent it on, as this rule asks: flowlab screen'), null),
        if(is_in_screen, null, array_to_string(stage_reasons[:reached_position], '; '))
    ) as reason
from placed
