-- What each stage makes of each lever, for stage_results; beside it the cells and the panel, which the views below go on with.
-- Improvement and bar are compared after rounding their difference to 1e-9, so 0.3555 - 0.3455 is not more than 0.010.
create view lever_stages as
with
    looked_at as (
        select
            lever.*,
            stage.position as stage_position, stage.name as stage, stage.statistic, stage.first_seed, stage.num_seeds,
            stage.first_seed + stage.num_seeds - 1 as last_seed, stage.bar as stated_bar, stage.bar_unit,
            lever.cells[stage.first_seed : stage.first_seed + stage.num_seeds - 1] as seen,
            if(rules.direction = 'higher', -1, 1) as sign
        from lever_cells as lever
        join rule_stages as stage using (rule_digest)
        join rules using (rule_digest)
    ),
    means as (
        select
            *,
            list_count([cell.lever_value for cell in seen]) as num_lever,
            list_count([cell.control_value - cell.lever_value for cell in seen]) as num_pairs,
            list_avg([cell.lever_value for cell in seen]) as lever_mean,
            sign * list_avg([cell.control_value - cell.lever_value for cell in seen]) as paired_improvement
        from looked_at
    ),
    compared as (
        select
            *,
            case
                when bar_unit = 'metric' then stated_bar
                when panel_is_complete then stated_bar * panel_sd
            end as bar,
            case
                when statistic = 'paired' and num_pairs = num_seeds then paired_improvement
                when statistic = 'panel' and num_lever = num_seeds and panel_is_complete then sign * (panel_mean - lever_mean)
            end as improvement
        from means
    )
select
    *,
    round(improvement - bar, 9) > 0 as passes,
    case
        when improvement is null then
            format(
                '{}: waits for {}',
                stage,
                array_to_string(
                    [
                        format('{}@{}', lever, cell.seed)
                        || if(cell.is_finished, ', which finished without the primary metric', '')
                        for cell in seen if cell.lever_value is null
                    ]
                    || [
                        format('control@{}', cell.seed)
                        for cell in seen if cell.control_value is null and statistic = 'paired'
                    ]
                    || if(statistic = 'panel' and not panel_is_complete, ['the panel'], []),
                    ', '
                )
            )
        else
            format(
                '{}: {:.4f} {} than {} at {}, {} {}: {}',
                stage,
                abs(improvement),
                case when improvement >= 0 then 'better' else 'worse' end,
                case statistic when 'paired' then 'the control' else 'the panel mean' end,
                array_to_string([cell.seed for cell in seen], ', '),
                case when round(improvement - bar, 9) > 0 then 'more than' else 'needs more than' end,
                case when bar_unit = 'metric' then format('{:g}', bar) else format('{:g} panel sd, {:.4f}', stated_bar, bar) end,
                case when round(improvement - bar, 9) > 0 then 'passed' else 'dropped' end
            )
    end as reason
from compared
