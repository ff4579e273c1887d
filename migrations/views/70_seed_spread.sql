-- grain: one row per rule_digest, base_id, lever, recipe_digest, position
-- What each lever's runs say on each metric of the rule, over all seeds in evidence, also those that the rule does not
-- judge. Runs of one row differ by their seed alone. Placebos are left out here and in all that builds on this: they
-- repeat the control's bits.
create view seed_spread as
select
    rule, rule_digest, base_id, lever, recipe_digest, role, position,
    count(*) as num_seeds,
    avg(value) as mean,
    stddev_samp(value) as sd,
    var_pop(value) * count(*) as sum_squares,
    count(*) - 1 as df
from judged_values
where not is_placebo
group by all
