-- grain: one row per amended_digest, rule_digest, base_id, lever, recipe_digest
-- What each amendment would have changed: every lever that both rules judge, under the rule that was replaced and under the
-- one that took its place, as if neither were post-hoc. flipped is true where they part.
create view rejudged as
select
    amendments.amended_digest,
    amendments.rule_digest,
    amended.rule as amended_rule,
    renewed.rule,
    amendments.reason as amended_because,
    amendments.time_us as amended_us,
    amended.base_id,
    amended.lever,
    amended.recipe_digest,
    amended.stage as amended_stage,
    amended.outcome as amended_outcome,
    renewed.stage,
    renewed.outcome,
    renewed.outcome is distinct from amended.outcome as flipped,
    amended.reason as amended_reason,
    renewed.reason
from amendments
join decisions as amended on amended.rule_digest = amendments.amended_digest
left join decisions as renewed
    on renewed.rule_digest = amendments.rule_digest
    and renewed.base_id = amended.base_id
    and renewed.lever = amended.lever
    and renewed.recipe_digest = amended.recipe_digest
