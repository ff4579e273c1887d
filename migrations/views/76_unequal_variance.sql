-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- Levers (and the control) whose runs spread more or less than those of all others, on the primary metric: F is the
-- ratio of the variances, z what it is worth as a normal score by Paulson's approximation (1942).
create view unequal_variance as
with
    multi_seed as (select * from seed_spread where role = 'primary' and num_seeds >= 2),
    totals as (
        select
            rule_digest, base_id,
            sum(sum_squares) as sum_squares,
            sum(df)::bigint as df
        from multi_seed
        group by all
    ),
    variances as (
        select
            multi_seed.* exclude (role, position),
            totals.df - multi_seed.df as others_df,
            multi_seed.sum_squares / multi_seed.df as variance,
            greatest(0, totals.sum_squares - multi_seed.sum_squares) / nullif(totals.df - multi_seed.df, 0) as others_variance
        from multi_seed
        join totals using (rule_digest, base_id)
    ),
    ratios as (select *, variance / nullif(others_variance, 0) as variance_ratio from variances),
    scored as (
        select
            *,
            ((1 - 2 / (9 * others_df)) * cbrt(variance_ratio) - (1 - 2 / (9 * df)))
            / sqrt(2 / (9 * others_df) * cbrt(variance_ratio) ** 2 + 2 / (9 * df)) as z
        from ratios
    )
select
    rule, rule_digest, base_id, lever, recipe_digest,
    num_seeds, sd, df, others_df, variance_ratio, z,
    isfinite(z) and abs(z) > 2.576 as is_unequal
from scored
