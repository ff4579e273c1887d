-- grain: one row per rule_digest, seed
-- The rule that chose each seed of a rule's panel: its own, or one that was amended away, if each amendment since took the panel over
-- whole. Whoever chose it after its control was seen has chosen it for all of them.
create view panel_origins as
with recursive
    seeds as materialized (select rule_digest, seed, is_taken_over from panel_seeds),
    origins as (
        select rule_digest, seed, rule_digest as origin_digest
        from seeds
        where not is_taken_over
        union
        select taken.rule_digest, taken.seed, origins.origin_digest
        from seeds as taken
        join amendments on amendments.rule_digest = taken.rule_digest
        join origins on origins.rule_digest = amendments.amended_digest and origins.seed = taken.seed
        where taken.is_taken_over
    )
select rule_digest, seed, min(origin_digest) as origin_digest
from origins
group by rule_digest, seed
