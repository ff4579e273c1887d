-- grain: one row per entry
-- Stacks that the rule they name does not bear out by what the ledger holds: there should be none.
create view unfounded_stacks as
select
    stacks.entry,
    stacks.lever,
    stacks.rule_digest,
    stacks.base_id,
    stacks.new_base_id,
    decisions.decision
from stacks
left join decisions
    on decisions.rule_digest = stacks.rule_digest
    and decisions.base_id = stacks.base_id
    and decisions.lever = stacks.lever
    and decisions.recipe_digest = stacks.recipe_digest
where decisions.decision is distinct from 'stack'
