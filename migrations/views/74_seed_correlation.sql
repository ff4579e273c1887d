-- grain: one row per rule_digest, base_id, family
-- How much of the seed's luck a lever shares with its control: their correlation over seeds within each lever, pooled
-- over the levers of a family. NULL where one side never varies. All levers meet the same few controls, so levers make up for
-- no seeds: usable from six pairs at four distinct seeds on.
create view seed_correlation as
with
    by_lever as (
        select
            rule, rule_digest, base_id, family, lever, recipe_digest,
            count(*) as num_pairs,
            list(seed) as seeds,
            covar_pop(control_value, lever_value) * count(*) as products,
            -- what never varies has a sum of squares of exactly 0, whatever floats make of its mean
            if(min(control_value) = max(control_value), 0, var_pop(control_value) * count(*)) as control_squares,
            if(min(lever_value) = max(lever_value), 0, var_pop(lever_value) * count(*)) as lever_squares
        from family_pairs
        group by all
        having count(*) >= 2
    )
select
    rule, rule_digest, base_id, family,
    sum(products) / nullif(sqrt(sum(control_squares) * sum(lever_squares)), 0) as rho,
    sum(num_pairs)::bigint as num_pairs,
    len(list_distinct(flatten(list(seeds)))) as num_seeds,
    count(*) as num_levers,
    sum(num_pairs) >= 6 and len(list_distinct(flatten(list(seeds)))) >= 4 as is_usable
from by_lever
group by all
