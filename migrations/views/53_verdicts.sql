-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- Each decision with what it rests on. num_pairs, pair_seeds, paired_deltas (lever - control) and lever_mean are over all judged
-- seeds that are there; what each stage computed is in stage_results and in the reason. unlike_seeds are those of pairs that were trained in
-- two environments. owed is what the rule wants next.
create view verdicts as
select
    decided.rule, decided.rule_digest, decided.base_id, decided.lever, decided.recipe_digest,
    list_count([pair.lever_value - pair.control_value for pair in decided.seeds]) as num_pairs,
    [pair.seed for pair in decided.seeds if pair.lever_value - pair.control_value is not null] as pair_seeds,
    [
        pair.lever_value - pair.control_value
        for pair in decided.seeds if pair.lever_value - pair.control_value is not null
    ] as paired_deltas,
    [pair.seed for pair in decided.seeds if pair.unlike is not null] as unlike_seeds,
    list_avg([pair.lever_value for pair in decided.seeds]) as lever_mean,
    decided.panel.mean as panel_mean,
    decided.panel.sd as panel_sd,
    coalesce(decided.panel.count, 0) as panel_count,
    decided.stage as stage_reached,
    decided.effect,
    decided.decision,
    decided.reason,
    if(
        decided.outcome = 'undecided' and not decided.is_barred and wanted.rule_digest is not null,
        array_to_string(
            [format('{}@{}', decided.lever, pair.seed) for pair in decided.owed]
            || [format('control@{}', control.seed) for control in wanted.owed],
            ', '
        ),
        ''
    ) as owed
from lever_decisions as decided
left join wanted_panels as wanted on wanted.rule_digest = decided.rule_digest and wanted.base_id = decided.base_id
