-- The stage that each lever has got to: the first that it has not passed, or the last one. reason tells of all up to it.
create view stage_reached as
with
    told as (
        select
            rule, rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest,
            stage_position, stage, first_seed, num_seeds, last_seed, improvement, passes,
            stage_position = max(stage_position) over (partition by rule_digest) as is_last,
            string_agg(reason, '; ') over (
                partition by rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest
                order by stage_position
                rows between unbounded preceding and current row
            ) as reason
        from stage_results
    )
select *
from told
qualify row_number() over (
    partition by rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest
    order by passes is distinct from true desc, if(passes, -stage_position, stage_position)
) = 1
