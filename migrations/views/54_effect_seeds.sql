-- grain: one row per entry, seed
-- New seeds, at which the base before a stack and the base after it are told apart by nothing that selected the lever: four after all seeds
-- that the rule knows and that anything had run at before the stack.
create view effect_seeds as
with
    known as (
        select stacks.entry, max(rule_seeds.seed) as seed
        from stacks
        join rule_seeds on rule_seeds.rule_digest = stacks.rule_digest
        group by stacks.entry
        union all
        select stacks.entry, max(runs.seed)
        from stacks
        join runs on runs.entry < stacks.entry
        group by stacks.entry
        union all
        select entry, replicate_seed from stacks
    ),
    last_ones as (select entry, max(seed) as seed from known group by entry)
select
    stacks.entry, stacks.lever, stacks.rule_digest,
    stacks.base_id, stacks.control_digest, stacks.new_base_id, stacks.new_control_digest,
    last_ones.seed + further.number as seed
from stacks
join last_ones on last_ones.entry = stacks.entry
cross join range(1, 5) as further (number)
