-- grain: one row per rule_digest, base_id, position
-- The seed's noise on each metric of a rule, pooled over all levers with two seeds or more, and its 95% interval. It
-- takes the noise to be the same for all levers (unequal_variance looks for those where it is not), and their runs to
-- be independent.
create view pooled_sigma as
with
    pooled as (
        select
            rule, rule_digest, base_id, role, position,
            sum(sum_squares) as sum_squares,
            sum(df)::bigint as df,
            count(*) as num_levers
        from seed_spread
        where num_seeds >= 2
        group by all
    ),
    formula as (
        select
            *,
            -- Wilson and Hilferty 1931: the cube root of chi-square / df is nearly normal
            df * (1 - 2 / (9 * df) - 1.959964 * sqrt(2 / (9 * df))) ** 3 as lower_formula,
            df * (1 - 2 / (9 * df) + 1.959964 * sqrt(2 / (9 * df))) ** 3 as upper_formula
        from pooled
    )
select
    rule, rule_digest, base_id, role, position,
    sqrt(sum_squares / df) as sigma,
    sqrt(sum_squares / coalesce(upper_quantile, upper_formula)) as sigma_low,
    sqrt(sum_squares / coalesce(lower_quantile, lower_formula)) as sigma_high,
    df,
    num_levers
from formula
left join chi_square_quantiles using (df)
