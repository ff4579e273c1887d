-- Each decision with what it rests on. num_pairs, pair_seeds, paired_deltas (lever - control) and lever_mean are over all judged
-- seeds that are there; what each stage computed is in stage_results and in the reason. owed is what the rule wants next.
create view verdicts as
with
    seeds_in as (
        select
            lever.rule_digest, lever.control_digest, lever.cache_id, lever.evaluation_id, lever.lever,
            lever.recipe_digest,
            judged.position,
            judged.seed,
            value.value as lever_value,
            value.value - control.value as delta
        from judged_levers as lever
        join rule_seeds as judged on judged.rule_digest = lever.rule_digest and judged.role = 'judged'
        join judged_values as value
            on value.rule_digest = lever.rule_digest
            and value.role = 'primary'
            and value.lever = lever.lever
            and value.recipe_digest = lever.recipe_digest
            and value.control_digest = lever.control_digest
            and value.cache_id = lever.cache_id
            and value.evaluation_id = lever.evaluation_id
            and value.seed = judged.seed
        left join judged_values as control
            on control.rule_digest = lever.rule_digest
            and control.role = 'primary'
            and control.is_control
            and control.control_digest = lever.control_digest
            and control.cache_id = lever.cache_id
            and control.evaluation_id = lever.evaluation_id
            and control.seed = judged.seed
    ),
    summaries as (
        select
            rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest,
            count(delta) as num_pairs,
            list(seed order by position) filter (where delta is not null) as pair_seeds,
            list(delta order by position) filter (where delta is not null) as paired_deltas,
            avg(lever_value) as lever_mean
        from seeds_in
        group by all
    ),
    owing as (
        select
            decided.rule_digest, decided.control_digest, decided.cache_id, decided.evaluation_id, decided.lever,
            decided.recipe_digest,
            string_agg(
                format('{}@{}', owed_runs.lever, owed_runs.seed),
                ', ' order by owed_runs.lever = 'control', owed_runs.lever, owed_runs.seed_position
            ) as owed
        from decisions as decided
        join owed_runs
            on owed_runs.rule_digest = decided.rule_digest
            and owed_runs.control_digest = decided.control_digest
            and owed_runs.cache_id = decided.cache_id
            and owed_runs.evaluation_id = decided.evaluation_id
            and (
                owed_runs.why = 'panel'
                or owed_runs.lever = decided.lever and owed_runs.recipe_digest = decided.recipe_digest
            )
        where decided.decision = 'undecided'
        group by all
    )
select
    decided.rule,
    decided.rule_digest,
    decided.control_digest,
    decided.cache_id,
    decided.evaluation_id,
    decided.lever,
    decided.recipe_digest,
    coalesce(summaries.num_pairs, 0) as num_pairs,
    coalesce(summaries.pair_seeds, []) as pair_seeds,
    coalesce(summaries.paired_deltas, []) as paired_deltas,
    summaries.lever_mean,
    panel_stats.panel_mean,
    panel_stats.panel_sd,
    coalesce(panel_stats.panel_count, 0) as panel_count,
    decided.stage as stage_reached,
    decided.effect,
    decided.decision,
    decided.reason,
    coalesce(owing.owed, '') as owed
from decisions as decided
left join summaries using (rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest)
left join owing using (rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest)
left join panel_stats
    on panel_stats.rule_digest = decided.rule_digest
    and panel_stats.role = 'primary'
    and panel_stats.control_digest = decided.control_digest
    and panel_stats.cache_id = decided.cache_id
    and panel_stats.evaluation_id = decided.evaluation_id
