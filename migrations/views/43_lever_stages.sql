-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- What each stage makes of each lever: `stages` has what the rule says of each, in its order, and the lists beside it what came of it, an
-- entry a stage (stage_results has a row for each); then in words; then the seeds, the panel and the doubts, which the views below go on with.
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
            list_transform(lever.control_values, lambda value, i: value - lever.lever_values[i]) as differences
        from lever_doubts as lever
        join asked on asked.rule_digest = lever.rule_digest
    ),
    counted as (
        select
            *,
            [list_count(lever_values[of.first_seed : of.last_seed]) for of in stages] as lever_counts,
            [list_count(differences[of.first_seed : of.last_seed]) for of in stages] as pair_counts,
            [list_avg(lever_values[of.first_seed : of.last_seed]) for of in stages] as lever_means,
            [
                case of.bar_unit when 'metric' then 1.0 when 'sigma' then sigma else if(panel.is_complete, panel.sd, null) end
                for of in stages
            ] as bar_sizes
        from looked_at
    ),
    measured as (
        select
            *,
            list_transform(stages, lambda of, i: of.stated_bar * bar_sizes[i]) as bars,
            list_transform(stages, lambda of, i: of.stated_above * bar_sizes[i]) as stack_bars,
            list_transform(stages, lambda of, i: case
                when of.statistic = 'panel' and lever_counts[i] = of.num_seeds and panel.is_complete
                    then sign * (panel.mean - lever_means[i])
                when of.statistic = 'paired' and pair_counts[i] = of.num_seeds
                    then sign * list_avg(differences[of.first_seed : of.last_seed])
                when of.statistic = 'adjusted' and pair_counts[i] = of.num_seeds and panel.is_complete
                    then sign * (
                        panel.mean - lever_means[i] + rho * (list_avg(control_values[of.first_seed : of.last_seed]) - panel.mean)
                    )
            end) as improvements
        from counted
    ),
    exceeding as (
        select *, list_transform(improvements, lambda improvement, i: improvement - bars[i]) as excesses
        from measured
    ),
    reckoned as (
        select *, [isfinite(excess) and abs(excess) < 1e70 for excess in excesses] as are_reckonable
        from exceeding
    ),
    compared as (
        select
            *,
            list_transform(excesses, lambda excess, i: are_reckonable[i] and round(excess, 9) > 0) as stage_passes,
            list_transform(improvements, lambda improvement, i:
                are_reckonable[i] and coalesce(round(improvement - stack_bars[i], 9) > 0, false)
            ) as stage_stacks
        from reckoned
    ),
    -- The first stage that is not passed, or at which it stacks, or the last one.
    reached as (
        select
            *,
            coalesce(
                list_position(
                    list_transform(stage_passes, lambda passes, i: stage_stacks[i] or not coalesce(passes, false)), true
                ),
                len(stages)
            ) as reached_position
        from compared
    )
select
    * exclude (sign, sigma, rho, lever_values, control_values, differences, bar_sizes, excesses, are_reckonable),
    -- In words, up to the stage reached, and apart from the numbers: who counts decisions by the million does not wait for the words.
    list_transform(stages, lambda of, i:
        case
            when i > reached_position then null
            when improvements[i] is null then
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
            when not are_reckonable[i] then
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
                    abs(improvements[i]),
                    if(improvements[i] >= 0, 'better', 'worse'),
                    if(of.statistic = 'paired', 'the control', 'the panel mean'),
                    array_to_string([pair.seed for pair in seeds[of.first_seed : of.last_seed]], ', '),
                    if(of.statistic = 'adjusted', format(', the control''s luck taken off (rho {:g})', rho), ''),
                    if(stage_passes[i], 'more than', 'needs more than'),
                    format('{:g}', if(stage_stacks[i], of.stated_above, of.stated_bar)) || case of.bar_unit
                        when 'metric' then ''
                        else format(
                            ' {}, {:.4f}', if(of.bar_unit = 'sigma', 'sigma', 'panel sd'), if(stage_stacks[i], stack_bars[i], bars[i])
                        )
                    end,
                    case when stage_stacks[i] then 'stacks' when stage_passes[i] then 'passed' else 'dropped' end
                )
        end
    ) as stage_reasons
from reached
