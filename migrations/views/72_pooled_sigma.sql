-- grain: one row per rule_digest, base_id, position
-- The seed's noise on each metric of a rule, from runs that nothing selected, with its 95% interval: the base's controls at all their seeds,
-- and the differences within groups of seeds that a stage adds at once. A lever comes to such a stage by earlier seeds, and what it is worth
-- lies in the mean of the group, so the deviations from that mean are selected by neither. Seeds that come one at a time are: a lever
-- has the second because its first was lucky.
-- All levers at one group have its luck in common, so they count as one group: the mean of their sums of squares. Where a control ran at
-- one of these seeds they share luck with the control too, and don't count at all. The interval takes the noise to be normal, and the
-- same for all (unequal_variance looks for levers where it is not).
create view pooled_sigma as
with
    -- The judged seeds of each stage that no stage before it looks at, by their positions.
    added as (
        select
            rule_digest,
            position as stage_position,
            greatest(
                first_seed,
                1 + coalesce(max(first_seed + num_seeds - 1) over (
                    partition by rule_digest order by position rows between unbounded preceding and 1 preceding
                ), 0)
            ) as first_new,
            first_seed + num_seeds - 1 as last_new
        from rule_stages
    ),
    group_seeds as (
        select added.rule_digest, added.stage_position, rule_seeds.seed, added.last_new - added.first_new + 1 as num_new
        from added
        join rule_seeds
            on rule_seeds.rule_digest = added.rule_digest
            and rule_seeds.role = 'judged'
            and rule_seeds.position between added.first_new and added.last_new
        where added.last_new > added.first_new
    ),
    measured as materialized (select * from judged_values where not is_placebo),
    -- Runs that were trained for this rule: older ones may have been chosen by another, and nobody knows why others were imported.
    asked as (
        select rules.rule_digest, told_runs.run_id
        from told_runs
        join rules
            on told_runs.trained_entry >= rules.entry
            and (rules.evaluation_id is not null or told_runs.trained_us >= rules.time_us)
        where told_runs.origin is null
    ),
    groups as (
        select
            run.rule, run.rule_digest, run.base_id, run.role, run.position, group_seeds.stage_position,
            run.lever, run.recipe_digest,
            var_pop(run.value) * count(*) as sum_squares,
            count(*) - 1 as df
        from measured as run
        join group_seeds using (rule_digest, seed)
        semi join asked using (rule_digest, run_id)
        anti join evidence as control on control.is_control and control.base_id = run.base_id and control.seed = run.seed
        where run.lever <> 'control'
        group by all
        having count(*) = any_value(group_seeds.num_new)
    ),
    parts as (
        select
            rule, rule_digest, base_id, role, position, null as lever, null as recipe_digest,
            var_pop(value) * count(*) as sum_squares,
            count(*) - 1 as df,
            count(*) as num_controls,
            1 as num_beside
        from measured
        where is_control
        group by all
        union all
        select
            rule, rule_digest, base_id, role, position, lever, recipe_digest, sum_squares, df, 0,
            count(*) over (partition by rule_digest, base_id, position, stage_position)
        from groups
    ),
    pooled as (
        select
            rule, rule_digest, base_id, role, position,
            sum(sum_squares / num_beside) as sum_squares,
            round(sum(df / num_beside))::bigint as df,
            sum(num_controls)::bigint as num_controls,
            count(distinct row(lever, recipe_digest)) filter (where lever is not null) as num_levers,
            max(df) filter (where lever is not null) as group_df
        from parts
        group by all
        having sum(df) > 0
    )
select
    rule, rule_digest, base_id, role, position,
    sqrt(sum_squares / df) as sigma,
    sqrt(sum_squares / upper_quantile) as sigma_low,
    sqrt(sum_squares / lower_quantile) as sigma_high,
    df,
    num_controls,
    num_levers,
    concat_ws(
        ' and ',
        if(num_controls > 1, format('{} controls', num_controls), null),
        case
            when num_levers = 1 then '1 lever''s fresh ' || if(group_df = 1, 'pair', 'group')
            when num_levers > 1 then format('{} levers'' fresh {}', num_levers, if(group_df = 1, 'pairs', 'groups'))
        end
    ) as rests_on
from pooled
left join chi_square_quantiles using (df)
