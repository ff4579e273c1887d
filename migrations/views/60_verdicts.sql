-- Each decision with what it rests on. num_pairs, pair_seeds, paired_deltas (lever - control) and lever_mean are over all judged
-- seeds that are there; what each stage computed is in stage_results and in the reason. owed is what the rule wants next.
create view verdicts as
with
    controls as (
        select
            rule_digest, control_digest, cache_id, evaluation_id,
            list_sort(list({'position': seed_position, 'name': format('control@{}', seed)})) as owed
        from owed_controls
        group by all
    )
select
    decided.rule, rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest,
    list_count([cell.lever_value - cell.control_value for cell in cells]) as num_pairs,
    [cell.seed for cell in cells if cell.lever_value - cell.control_value is not null] as pair_seeds,
    [
        cell.lever_value - cell.control_value for cell in cells if cell.lever_value - cell.control_value is not null
    ] as paired_deltas,
    list_avg([cell.lever_value for cell in cells]) as lever_mean,
    panel_mean,
    panel_sd,
    panel_count,
    stage as stage_reached,
    effect,
    decision,
    reason,
    if(
        outcome = 'undecided' and not is_barred and places.rule_digest is not null,
        array_to_string(
            [format('{}@{}', decided.lever, cell.seed) for cell in decided.owed]
            || coalesce([control.name for control in controls.owed], []),
            ', '
        ),
        ''
    ) as owed
from lever_decisions as decided
left join controls using (rule_digest, control_digest, cache_id, evaluation_id)
left join places using (rule_digest, control_digest, cache_id, evaluation_id)
