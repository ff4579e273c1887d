-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- Decisions that nobody has written down yet. They are, in the step after journals were brought in (verdict/record.py).
create view unrecorded_decisions as
select
    decisions.rule_digest, decisions.base_id, decisions.lever, decisions.recipe_digest,
    decisions.decision, decisions.effect, decisions.reason
from decisions
anti join recorded_verdicts as recorded using (rule_digest, base_id, lever, recipe_digest)
where decisions.decision in ('stack', 'drop')
