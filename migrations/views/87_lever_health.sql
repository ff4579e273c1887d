-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- Whether a lever's runs are sound, beside what a rule decides of it: seeds at which it crashed, seeds at which it learnt past its best
-- (run_health), at which share of the steps its validation error was least on average, how far its judged runs lie apart on the primary metric,
-- beside sigma, and where it is worse than what needs no policy.
create view lever_health as
with
    ran as (
        select
            base_id, lever, recipe_digest,
            count(*) as num_runs,
            coalesce(list(seed order by seed) filter (status = 'crashed'), []) as crashed_seeds
        from told_runs
        where replicate = 0 and purpose is null
        group by all
    ),
    learnt as (
        select
            base_id, lever, recipe_digest,
            any_value(metric) as metric,
            coalesce(list(distinct seed order by seed) filter (is_past_best), []) as past_best_seeds,
            avg(best_step / num_steps) as best_share
        from run_health
        where replicate = 0 and num_steps > 0
        group by all
    ),
    lay as (
        select rule_digest, base_id, lever, recipe_digest, stddev_samp(value) as sd, count(*) as num_judged
        from judged_values
        where role = 'primary'
        group by all
    ),
    worse as (
        select
            rule_digest, base_id, lever, recipe_digest,
            list(baseline || ' on ' || slice order by baseline, slice) as worse_than
        from worse_than_baselines
        group by all
    )
select
    judged.rule, judged.rule_digest, judged.base_id, judged.lever, judged.recipe_digest,
    coalesce(ran.num_runs, 0) as num_runs,
    coalesce(ran.crashed_seeds, []) as crashed_seeds,
    learnt.metric,
    learnt.best_share,
    coalesce(learnt.past_best_seeds, []) as past_best_seeds,
    coalesce(lay.num_judged, 0) as num_judged,
    lay.sd,
    sigma.sigma,
    coalesce(worse.worse_than, []) as worse_than
from judged_levers as judged
left join ran using (base_id, lever, recipe_digest)
left join learnt using (base_id, lever, recipe_digest)
left join lay using (rule_digest, base_id, lever, recipe_digest)
left join worse using (rule_digest, base_id, lever, recipe_digest)
left join pooled_sigma as sigma
    on sigma.role = 'primary' and sigma.rule_digest = judged.rule_digest and sigma.base_id = judged.base_id
