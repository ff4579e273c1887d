-- Stacks that the rule they name does not bear out by what the ledger holds: there should be none.
create view unfounded_stacks as
select
    stacks.entry,
    stacks.lever,
    stacks.rule_digest,
    stacks.control_digest,
    stacks.new_control_digest,
    decisions.decision
from stacks
left join decisions
    on decisions.rule_digest = stacks.rule_digest
    and decisions.control_digest = stacks.control_digest
    and decisions.cache_id = stacks.cache_id
    and decisions.evaluation_id = stacks.evaluation_id
    and decisions.lever = stacks.lever
    and decisions.recipe_digest = stacks.recipe_digest
where decisions.decision is distinct from 'stack'
