-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- What each stage makes of each lever, in one list in the rule's order (stage_results has a row for each entry); beside it the seeds,
-- the panel and the doubts, which the views below go on with.
-- Improvement and bar are compared after rounding their difference to 1e-9, so 0.3555 - 0.3455 is not more than 0.010. What is not finite,
-- or beyond 1e70, passes nothing: NaN is more than any bar, and so is the infinity that a mean of huge values becomes.
create view lever_stages as
with
    asked as (
        select
            stage.rule_digest,
            any_value(if(rules.direction = 'higher', -1, 1)) as sign,
            list_sort(list({
                'stage_position': stage.position, 'stage': stage.name, 'statistic': stage.statistic,
                'first_seed': stage.first_seed, 'num_seeds': stage.num_seeds,
                'last_seed': stage.first_seed + stage.num_seeds - 1, 'stated_bar': stage.bar, 'bar_unit': stage.bar_unit,
                'bar_text': format(if(stage.bar_unit = 'metric', '{:g}', '{:g} panel sd'), stage.bar)
            })) as stages
        from rule_stages as stage
        join rules on rules.rule_digest = stage.rule_digest
        group by stage.rule_digest
    ),
    looked_at as (
        select
            lever.*,
            asked.sign,
            asked.stages,
            [pair.lever_value for pair in lever.seeds] as lever_values,
            [pair.control_value - pair.lever_value for pair in lever.seeds] as differences
        from lever_doubts as lever
        join asked on asked.rule_digest = lever.rule_digest
    ),
    means as (
        select * replace ([
            struct_insert(
                of,
                num_lever := list_count(lever_values[of.first_seed : of.last_seed]),
                num_pairs := list_count(differences[of.first_seed : of.last_seed]),
                lever_mean := list_avg(lever_values[of.first_seed : of.last_seed]),
                paired_improvement := sign * list_avg(differences[of.first_seed : of.last_seed]),
                bar := case
                    when of.bar_unit = 'metric' then of.stated_bar
                    when panel.is_complete then of.stated_bar * panel.sd
                end
            )
            for of in stages
        ] as stages)
        from looked_at
    ),
    measured as (
        select * replace ([
            struct_insert(
                of,
                improvement := case
                    when of.statistic = 'paired' and of.num_pairs = of.num_seeds then of.paired_improvement
                    when of.statistic = 'panel' and of.num_lever = of.num_seeds and panel.is_complete
                        then sign * (panel.mean - of.lever_mean)
                end
            )
            for of in stages
        ] as stages)
        from means
    ),
    compared as (
        select * replace ([
            struct_insert(
                of,
                passes := of.is_reckonable and round(of.improvement - of.bar, 9) > 0
            )
            for of in stages
        ] as stages)
        from (
            select * replace ([
                struct_insert(of, is_reckonable := isfinite(of.improvement - of.bar) and abs(of.improvement - of.bar) < 1e70)
                for of in stages
            ] as stages)
            from measured
        )
    )
select * exclude (sign, lever_values, differences) replace ([
    struct_insert(
        of,
        reason := case
            when of.improvement is null then
                format(
                    '{}: waits for {}',
                    of.stage,
                    array_to_string(
                        [
                            format('{}@{}', lever, pair.seed)
                            || if(pair.is_finished, ', which finished without the primary metric', '')
                            for pair in seeds[of.first_seed : of.last_seed] if pair.lever_value is null
                        ]
                        || [
                            format('control@{}', pair.seed)
                            for pair in seeds[of.first_seed : of.last_seed] if pair.control_value is null and of.statistic = 'paired'
                        ]
                        || if(of.statistic = 'panel' and not coalesce(panel.is_complete, false), ['the panel'], []),
                        ', '
                    )
                )
            when not of.is_reckonable then
                format(
                    '{}: no number to reckon with against {} at {}: dropped',
                    of.stage,
                    case of.statistic when 'paired' then 'the control' else 'the panel mean' end,
                    array_to_string([pair.seed for pair in seeds[of.first_seed : of.last_seed]], ', ')
                )
            else
                format(
                    '{}: {:.4f} {} than {} at {}, {} {}: {}',
                    of.stage,
                    abs(of.improvement),
                    case when of.improvement >= 0 then 'better' else 'worse' end,
                    case of.statistic when 'paired' then 'the control' else 'the panel mean' end,
                    array_to_string([pair.seed for pair in seeds[of.first_seed : of.last_seed]], ', '),
                    case when of.passes then 'more than' else 'needs more than' end,
                    of.bar_text || if(of.bar_unit = 'metric', '', format(', {:.4f}', of.bar)),
                    case when of.passes then 'passed' else 'dropped' end
                )
        end
    )
    for of in stages
] as stages)
from compared
