-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- What each stage makes of each lever: `stages` has what the rule says of each, in its order, and `results` what came of it, an entry a
-- stage (stage_results has a row for each); then in words; then the seeds, the panel and the doubts, which the views below go on with.
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
    measured as (
        select
            lever.* exclude (lever_values, control_values, differences), asked.* exclude (rule_digest),
            -- Each step has the list of the one within it: a projection for each would carry all that is known of a lever along.
            list_transform(
                list_transform(
                    list_transform(
                        list_transform(asked.stages, lambda of: {
                            'num_lever': list_count(lever.lever_values[of.first_seed : of.last_seed]),
                            'num_pairs': list_count(lever.differences[of.first_seed : of.last_seed]),
                            'lever_mean': list_avg(lever.lever_values[of.first_seed : of.last_seed]),
                            'bar_size': case of.bar_unit
                                when 'metric' then 1.0
                                when 'sigma' then asked.sigma
                                else if(lever.panel.is_complete, lever.panel.sd, null)
                            end
                        }),
                        lambda found, i: struct_insert(
                            found,
                            bar := asked.stages[i].stated_bar * found.bar_size,
                            stack_above := asked.stages[i].stated_above * found.bar_size,
                            improvement := case
                                when
                                    asked.stages[i].statistic = 'panel'
                                    and found.num_lever = asked.stages[i].num_seeds and lever.panel.is_complete
                                    then asked.sign * (lever.panel.mean - found.lever_mean)
                                when asked.stages[i].statistic = 'paired' and found.num_pairs = asked.stages[i].num_seeds
                                    then asked.sign
                                    * list_avg(lever.differences[asked.stages[i].first_seed : asked.stages[i].last_seed])
                                when
                                    asked.stages[i].statistic = 'adjusted'
                                    and found.num_pairs = asked.stages[i].num_seeds and lever.panel.is_complete
                                    then asked.sign * (
                                        lever.panel.mean - found.lever_mean + asked.rho * (
                                            list_avg(lever.control_values[asked.stages[i].first_seed : asked.stages[i].last_seed])
                                            - lever.panel.mean
                                        )
                                    )
                            end
                        )
                    ),
                    lambda found: struct_insert(
                        found,
                        is_reckonable := isfinite(found.improvement - found.bar) and abs(found.improvement - found.bar) < 1e70
                    )
                ),
                lambda found: struct_insert(
                    found,
                    passes := found.is_reckonable and round(found.improvement - found.bar, 9) > 0,
                    stacks := found.is_reckonable and coalesce(round(found.improvement - found.stack_above, 9) > 0, false)
                )
            ) as results
        from lever_doubts as lever
        join asked using (rule_digest)
    ),
    -- The first stage that is not passed, or at which it stacks, or the last one.
    reached as (
        select
            *,
            coalesce(
                list_position([result.stacks or not coalesce(result.passes, false) for result in results], true),
                len(stages)
            ) as reached_position
        from measured
    )
select
    * exclude (sign, sigma, rho),
    -- In words, up to the stage reached, and apart from the numbers: who counts decisions by the million does not wait for the words.
    list_transform(stages, lambda of, i:
        case
            when i > reached_position then null
            when results[i].improvement is null then
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
            when not results[i].is_reckonable then
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
                    abs(results[i].improvement),
                    if(results[i].improvement >= 0, 'better', 'worse'),
                    if(of.statistic = 'paired', 'the control', 'the panel mean'),
                    array_to_string([pair.seed for pair in seeds[of.first_seed : of.last_seed]], ', '),
                    if(of.statistic = 'adjusted', format(', the control''s luck taken off (rho {:g})', rho), ''),
                    if(results[i].passes, 'more than', 'needs more than'),
                    format('{:g}', if(results[i].stacks, of.stated_above, of.stated_bar)) || case of.bar_unit
                        when 'metric' then ''
                        else format(
                            ' {}, {:.4f}', if(of.bar_unit = 'sigma', 'sigma', 'panel sd'), if(results[i].stacks, results[i].stack_above, results[i].bar)
                        )
                    end,
                    case when results[i].stacks then 'stacks' when results[i].passes then 'passed' else 'dropped' end
                )
        end
    ) as stage_reasons
from reached
