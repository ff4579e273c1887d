-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- What each lever is worth by its runs, side by side: improvements, so above 0 is better. raw takes all judged seeds, fresh those
-- alone that only the rule's last stage looks at. Both flatter a lever that was stacked: each stage, the last one too, selects those that
-- its seeds favour, and the panel's own luck is in all of them. seed_noise and evaluation_noise are what other seeds, and other
-- validation drives, would change raw by (one standard deviation), had nothing been selected. tau2 is by how much raw effects
-- vary beyond seed_noise, at least 0, and NULL where none is known.
create view effects as
with
    fresh_seeds as (select rule_digest, seed from seed_roles where role = 'fresh'),
    fresh_sizes as (select rule_digest, count(*) as num_fresh from fresh_seeds group by rule_digest),
    means as (
        select
            run.rule, run.rule_digest, run.base_id,
            run.lever, run.recipe_digest,
            count(*) as num_seeds,
            avg(run.value) as lever_mean,
            if(rules.direction = 'higher', -1, 1) as sign,
            avg(pairs.control_value - pairs.lever_value) as paired_difference,
            count(pairs.seed) as num_pairs,
            count(fresh_seeds.seed) as num_fresh,
            avg(run.value) filter (where fresh_seeds.seed is not null) as fresh_mean
        from judged_values as run
        join rules on rules.rule_digest = run.rule_digest
        join rule_seeds as judged
            on judged.rule_digest = run.rule_digest and judged.role = 'judged' and judged.seed = run.seed
        left join fresh_seeds on fresh_seeds.rule_digest = run.rule_digest and fresh_seeds.seed = run.seed
        left join family_pairs as pairs
            on pairs.rule_digest = run.rule_digest
            and pairs.base_id = run.base_id
            and pairs.lever = run.lever
            and pairs.recipe_digest = run.recipe_digest
            and pairs.seed = run.seed
        where run.role = 'primary' and run.lever <> 'control' and not run.is_placebo
        group by all
    ),
    measured as (
        select
            means.*,
            sign * means.paired_difference as paired_effect,
            sign * (panel_stats.panel_mean - means.lever_mean) as raw_effect,
            case when means.num_fresh = fresh_sizes.num_fresh then sign * (panel_stats.panel_mean - means.fresh_mean) end
                as fresh_effect,
            panel_stats.panel_count,
            sigma.sigma,
            sigma.df,
            sigma.sigma * sqrt(1 / means.num_seeds + 1 / panel_stats.panel_count) as seed_noise
        from means
        left join fresh_sizes using (rule_digest)
        left join panel_stats
            on panel_stats.is_complete
            and panel_stats.role = 'primary'
            and panel_stats.rule_digest = means.rule_digest
            and panel_stats.base_id = means.base_id
        left join pooled_sigma as sigma
            on sigma.role = 'primary'
            and sigma.rule_digest = means.rule_digest
            and sigma.base_id = means.base_id
    ),
    spread as (
        select
            *,
            avg(raw_effect ** 2 - seed_noise ** 2) over (partition by rule_digest, base_id) as excess
        from measured
    )
select
    rule, rule_digest, base_id, lever, recipe_digest,
    num_seeds, raw_effect, fresh_effect,
    seed_noise, drive_noise.evaluation_noise,
    num_pairs, paired_effect, sigma, df, panel_count,
    -- greatest() would pass over a NULL
    if(excess < 0, 0, excess) as tau2,
    drive_noise.num_drives
from spread
left join drive_noise
    using (rule, rule_digest, base_id, lever, recipe_digest)
