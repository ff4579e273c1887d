-- Each stage of a rule on each lever. improvement and passes are NULL while something that the stage needs is missing.
-- bar is in the metric's units here, whatever bar_unit: a bar of 2 panel-sd is 2 times the panel's sd, once it is complete.
-- Improvement and bar are compared after rounding their difference to 1e-9, so 0.3555 - 0.3455 is not more than 0.010.
create view stage_results as
with
    means as (
        select
            rule, rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest,
            stage_position, stage, statistic, first_seed, num_seeds, bar as stated_bar, bar_unit,
            count(lever_value) as num_lever,
            count(control_value - lever_value) as num_pairs,
            avg(lever_value) as lever_mean,
            avg(control_value - lever_value) as paired_improvement,
            string_agg(seed::text, ', ' order by seed_position) as seeds,
            string_agg(
                case
                    when is_finished then format('{}@{}, which finished without the primary metric', lever, seed)
                    else format('{}@{}', lever, seed)
                end,
                ', ' order by seed_position
            ) filter (where lever_value is null) as missing_lever,
            string_agg(format('control@{}', seed), ', ' order by seed_position)
                filter (where control_value is null and statistic = 'paired') as missing_control
        from stage_cells
        group by all
    ),
    compared as (
        select
            means.*,
            panel_stats.panel_mean,
            case
                when bar_unit = 'metric' then stated_bar
                when panel_stats.is_complete then stated_bar * panel_stats.panel_sd
            end as bar,
            coalesce(panel_stats.panel_count, 0) as panel_count,
            coalesce(panel_stats.is_complete, false) as panel_is_complete,
            case
                when statistic = 'paired' and num_pairs = num_seeds then paired_improvement
                when statistic = 'panel' and num_lever = num_seeds and panel_stats.is_complete
                    then panel_stats.panel_mean - lever_mean
            end as improvement
        from means
        left join panel_stats
            on panel_stats.rule_digest = means.rule_digest
            and panel_stats.role = 'primary'
            and panel_stats.control_digest = means.control_digest
            and panel_stats.cache_id = means.cache_id
            and panel_stats.evaluation_id = means.evaluation_id
    )
select
    rule, rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest,
    stage_position, stage, statistic, first_seed, num_seeds, first_seed + num_seeds - 1 as last_seed, bar, bar_unit,
    num_lever, num_pairs, lever_mean, improvement,
    round(improvement - bar, 9) > 0 as passes,
    case
        when improvement is null then
            format(
                '{}: waits for {}',
                stage,
                concat_ws(
                    ', ',
                    missing_lever,
                    missing_control,
                    case when statistic = 'panel' and not panel_is_complete then 'the panel' end
                )
            )
        else
            format(
                '{}: {:.4f} {} than {} at {}, {} {}: {}',
                stage,
                abs(improvement),
                case when improvement >= 0 then 'better' else 'worse' end,
                case statistic when 'paired' then 'the control' else 'the panel mean' end,
                seeds,
                case when round(improvement - bar, 9) > 0 then 'more than' else 'needs more than' end,
                case when bar_unit = 'metric' then format('{:g}', bar) else format('{:g} panel sd, {:.4f}', stated_bar, bar) end,
                case when round(improvement - bar, 9) > 0 then 'passed' else 'dropped' end
            )
    end as reason
from compared
