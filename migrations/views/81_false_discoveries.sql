-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- How many of the levers that look good would do so by luck: Benjamini and Hochberg's q over all levers of a campaign.
-- p is one-sided, from Student's t as a normal score (Wallace 1959). It takes a lever's seeds for a sample that nothing selected, and
-- levers for independent, which they are not: docs/views.md tells what a q_value was worth in simulated campaigns.
create view false_discoveries as
with
    students as (
        select
            rule, rule_digest, base_id, lever, recipe_digest, num_seeds, raw_effect,
            seed_noise, df,
            raw_effect / seed_noise as t
        from effects
        where raw_effect is not null and seed_noise > 0
    ),
    normal as (
        select *, (8 * df + 1) / (8 * df + 3) * sqrt(df * ln(1 + t * t / df)) * sign(t) as z
        from students
    ),
    bounds as (select *, abs(z) / sqrt(2) as x, 1 / (1 + abs(z) / sqrt(8)) as s from normal),
    tails as (
        select
            * exclude (x, s),
            -- erfc(x) / 2 by the Chebyshev fit of Press et al. (1992): right to 1.2e-7 of itself, however small
            s / 2 * exp(
                -x * x - 1.26551223 + s * (1.00002368 + s * (0.37409196 + s * (0.09678418 + s * (-0.18628806
                + s * (0.27886807 + s * (-1.13520398 + s * (1.48851587 + s * (-0.82215223 + s * 0.17087277))))))))
            ) as tail
        from bounds
    ),
    ranked as (
        select
            * exclude (tail),
            if(z > 0, tail, 1 - tail) as p,
            row_number() over (per_base order by if(z > 0, tail, 1 - tail), lever, recipe_digest) as rank,
            count(*) over per_base as num_levers
        from tails
        window per_base as (partition by rule_digest, base_id)
    )
select
    *,
    min(p * num_levers / rank) over (
        partition by rule_digest, base_id
        order by rank desc
        rows between unbounded preceding and current row
    ) as q_value
from ranked
