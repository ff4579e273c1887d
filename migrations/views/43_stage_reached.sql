-- The stage that each lever has got to: the first that it has not passed, or the last one.
create view stage_reached as
with
    ends as (
        select
            rule, rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest,
            coalesce(min(stage_position) filter (where passes is distinct from true), max(stage_position)) as stage_position
        from stage_results
        group by all
    )
select ends.*, result.stage, result.num_seeds, result.passes
from ends
join stage_results as result using (
    rule, rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest, stage_position
)
