-- Each lever that was ever registered, under each sealed rule.
create view judged_levers as
select distinct
    rules.name as rule,
    rules.rule_digest,
    runs.control_digest,
    runs.cache_id,
    runs.evaluation_id,
    runs.lever,
    runs.recipe_digest
from runs
cross join rules
where runs.lever <> 'control'
