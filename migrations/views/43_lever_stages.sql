-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- What each stage makes of each lever, in one list in the rule's order (stage_results has a row for each entry), and beside it in words;
-- then the seeds, the panel and the doubts, which the views below go on with.
-- Improvement and bar are compared after rounding their difference to 1e-9, so 0.3555 - 0.3455 is not more than 0.010. What is not finite,
-- or beyond 1e70, passes nothing: NaN is more than any bar, and so is the infinity that a mean of huge values becomes.
-- `adjusted` takes off as much of the control's luck at the lever's own seeds as the rule's rho says they share.
create view lever_stages as
with
    asked as (
        select
            stage.rule_digest,
            any_value(if(rules.direction = 'higher', -1, 1)) as sign,
            any_value(terms.sigma) as sigma,
            any_value(terms.rho) as rho,
            any_value(terms.screen_bar is not null) as is_screened,
            list_sort(list({
                'stage_position': stage.position, 'stage': stage.name, 'statistic': stage.statistic,
                'first_seed': stage.first_seed, 'num_seeds': stage.num_seeds,
                'last_seed': stage.first_seed + stage.num_seeds - 1, 'stated_bar': stage.bar, 'bar_unit': stage.bar_unit,
                'stated_above': stage.stack_above
            })) as stages
        from rule_stages as stage
        join rules on rules.rule_digest = stage.rule_digest
        left join rule_terms as terms on terms.rule_digest = stage.rule_digest
        group by stage.rule_digest
    ),
    looked_at as (
        select
            lever.*,
            asked.sign,
            asked.sigma,
            asked.rho,
            asked.is_screened,
            asked.stages,
            [pair.lever_value for pair in lever.seeds] as lever_values,
            [pair.control_value for pair in lever.seeds] as control_values,
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
                control_mean := list_avg(control_values[of.first_seed : of.last_seed]),
                paired_improvement := sign * list_avg(differences[of.first_seed : of.last_seed]),
                bar_size := case of.bar_unit
                    when 'metric' then 1.0
                    when 'sigma' then sigma
                    else if(panel.is_complete, panel.sd, null)
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
                bar := of.stated_bar * of.bar_size,
                stack_above := of.stated_above * of.bar_size,
                improvement := case
                    when of.statistic = 'paired' and of.num_pairs = of.num_seeds then of.paired_improvement
                    when of.statistic = 'panel' and of.num_lever = of.num_seeds and panel.is_complete
                        then sign * (panel.mean - of.lever_mean)
                    when of.statistic = 'adjusted' and of.num_pairs = of.num_seeds and panel.is_complete
                        then sign * (panel.mean - of.lever_mean + rho * (of.control_mean - panel.mean))
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
                passes := of.is_reckonable and round(of.improvement - of.bar, 9) > 0,
                stacks := of.is_reckonable and coalesce(round(of.improvement - of.stack_above, 9) > 0, false)
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
select
    * exclude (sign, sigma, rho, lever_values, control_values, differences),
    -- In words, and apart from the numbers, so that who counts decisions by the million does not wait for the words.
    [
        case
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
                            for pair in seeds[of.first_seed : of.last_seed]
                            if pair.control_value is null and of.statistic <> 'panel'
                        ]
                        || if(of.statistic <> 'paired' and not coalesce(panel.is_complete, false), ['the panel'], []),
                        ', '
                    )
                )
            when not of.is_reckonable then
                format(
                    '{}: no number to reckon with against {} at {}: dropped',
                    of.stage,
                    if(of.statistic = 'paired', 'the control', 'the panel mean'),
                    array_to_string([pair.seed for pair in seeds[of.first_seed : of.last_seed]], ', ')
                )
            else
                format(
                    '{}: {:.4f} {} than {} at {}{}, {} {}: {}',
                    of.stage,
                    abs(of.improvement),
                    if(of.improvement >= 0, 'better', 'worse'),
                    if(of.statistic = 'paired', 'the control', 'the panel mean'),
                    array_to_string([pair.seed for pair in seeds[of.first_seed : of.last_seed]], ', '),
                    if(of.statistic = 'adjusted', format(', the control''s luck taken off (rho {:g})', rho), ''),
                    if(of.passes, 'more than', 'needs more than'),
                    format('{:g}', if(of.stacks, of.stated_above, of.stated_bar)) || case of.bar_unit
                        when 'metric' then ''
                        else format(
                            ' {}, {:.4f}', if(of.bar_unit = 'sigma', 'sigma', 'panel sd'), if(of.stacks, of.stack_above, of.bar)
                        )
                    end,
                    case when of.stacks then 'stacks' when of.passes then 'passed' else 'dropped' end
                )
        end
        for of in stages
    ] as stage_reasons
from compared
