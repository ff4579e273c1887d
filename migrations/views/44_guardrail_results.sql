-- Each guardrail on each lever: its mean over all judged seeds up to the stage reached may exceed the panel's by the margin at
-- most. passes is NULL while a run or the panel is missing. Compared after rounding to 1e-9, as in stage_results.
create view guardrail_results as
with
    means as (
        select
            reached.rule, reached.rule_digest, reached.control_digest, reached.cache_id, reached.evaluation_id,
            reached.lever, reached.recipe_digest, reached.last_seed as num_seeds,
            guard.position, guard.metric, guard.channel, guard.slice, guard.readout, guard.margin,
            count(value.value) as num_lever,
            avg(value.value) as mean_so_far
        from stage_reached as reached
        join rule_guardrails as guard using (rule_digest)
        join rule_seeds as judged
            on judged.rule_digest = reached.rule_digest
            and judged.role = 'judged'
            and judged.position <= reached.last_seed
        left join judged_values as value
            on value.rule_digest = reached.rule_digest
            and value.role = 'guardrail'
            and value.position = guard.position
            and value.lever = reached.lever
            and value.recipe_digest = reached.recipe_digest
            and value.control_digest = reached.control_digest
            and value.cache_id = reached.cache_id
            and value.evaluation_id = reached.evaluation_id
            and value.seed = judged.seed
        group by all
    ),
    compared as (
        select
            means.* exclude (mean_so_far),
            case when num_lever = num_seeds then mean_so_far end as lever_mean,
            case when panel_stats.is_complete then panel_stats.panel_mean end as panel_mean
        from means
        left join panel_stats
            on panel_stats.rule_digest = means.rule_digest
            and panel_stats.role = 'guardrail'
            and panel_stats.position = means.position
            and panel_stats.control_digest = means.control_digest
            and panel_stats.cache_id = means.cache_id
            and panel_stats.evaluation_id = means.evaluation_id
    )
select
    *,
    lever_mean - panel_mean as excess,
    round(lever_mean - panel_mean - margin, 9) <= 0 as passes,
    format(
        'guardrail {} {} {}: {}',
        channel,
        metric,
        slice,
        coalesce(
            format(
                '{:.4f} against the panel''s {:.4f}, {} the margin {:g}',
                lever_mean,
                panel_mean,
                case when round(lever_mean - panel_mean - margin, 9) <= 0 then 'within' else 'over' end,
                margin
            ),
            'waits for its runs or the panel'
        )
    ) as reason
from compared
