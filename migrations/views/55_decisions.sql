-- What each rule decides of each lever. 'stack': every stage and guardrail passed. 'drop': one of them failed, or a run that a
-- stage needs crashed. Else 'undecided', also for ever where runs are older than the rule or imported: they may be shown, not
-- stacked. outcome is what the decision would be if it were not for that.
-- effect is the improvement at the last stage alone, once that is computed: for the preset fresh, that of the two fresh seeds.
create view decisions as
with
    guards as (
        select
            rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest,
            count(*) filter (where passes = false) as num_failed,
            count(*) filter (where passes is null) as num_open,
            string_agg(reason, '; ' order by position) filter (where passes is distinct from true) as reason
        from guardrail_results
        group by all
    ),
    crashes as (
        select
            judged.rule_digest, runs.control_digest, runs.cache_id, runs.evaluation_id, runs.lever, runs.recipe_digest,
            string_agg(
                format('crashed at seed {}, step {}', runs.seed, coalesce(run_states.step, 0)), ', ' order by judged.position
            ) as crash
        from runs
        join run_states using (run_id)
        join rule_seeds as judged on judged.role = 'judged' and judged.seed = runs.seed
        where run_states.status = 'crashed' and runs.replicate = 0
        group by all
    ),
    post_hoc as (
        select
            rules.rule_digest, runs.control_digest, runs.cache_id, runs.evaluation_id, runs.lever, runs.recipe_digest,
            format('post-hoc: {} of its runs are older than the rule, which may not stack them', count(*)) as older
        from runs
        join rules on runs.time_us < rules.time_us
        join rule_seeds as judged
            on judged.rule_digest = rules.rule_digest and judged.role = 'judged' and judged.seed = runs.seed
        where runs.replicate = 0
        group by all
    ),
    imported as (
        select
            control_digest, cache_id, evaluation_id, lever, recipe_digest,
            format('imported: {} of its runs were not trained under this rule, which may not stack them', count(*)) as foreign_runs
        from runs
        where origin is not null
        group by all
    )
select
    reached.* exclude (reason),
    case when reached.is_last then reached.improvement end as effect,
    case
        when not reached.passes then 'drop'
        when reached.passes is null and crashes.crash is not null then 'drop'
        when reached.passes is null then 'undecided'
        when coalesce(guards.num_failed, 0) > 0 then 'drop'
        when coalesce(guards.num_open, 0) > 0 then 'undecided'
        else 'stack'
    end as outcome,
    case
        when outcome = 'stack' and coalesce(post_hoc.older, imported.foreign_runs) is not null then 'undecided'
        else outcome
    end as decision,
    concat_ws(
        '; ',
        reached.reason,
        case when reached.passes then guards.reason end,
        crashes.crash,
        post_hoc.older,
        imported.foreign_runs
    ) as reason
from stage_reached as reached
left join crashes using (rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest)
left join post_hoc using (rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest)
left join imported using (control_digest, cache_id, evaluation_id, lever, recipe_digest)
left join guards using (rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest)
