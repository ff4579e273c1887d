-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- Decisions that are no longer what was written down of them first: something came in since, or was changed.
create view reversed_decisions as
with
    firsts as (
        select
            rule_digest, base_id, lever, recipe_digest,
            arg_min(decision, entry) as recorded,
            arg_min(time_us, entry) as recorded_us
        from recorded_verdicts
        group by rule_digest, base_id, lever, recipe_digest
    )
select
    decisions.rule_digest, decisions.base_id, decisions.lever, decisions.recipe_digest,
    firsts.recorded, firsts.recorded_us, decisions.decision
from decisions
join firsts using (rule_digest, base_id, lever, recipe_digest)
where firsts.recorded <> decisions.decision
