-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- Each lever under each sealed rule that judges it: its runs are evaluated as the rule says (or imported: shown, never stacked),
-- and it had begun, by the order of entries, before the rule was amended away.
create view judged_levers as
select
    rules.name as rule,
    rules.rule_digest,
    runs.base_id,
    runs.lever,
    runs.recipe_digest
from runs
cross join (
    select rules.rule_digest, rules.name, rules.evaluation_id, amendments.entry as amended_entry
    from rules
    left join amendments on amendments.amended_digest = rules.rule_digest
) as rules
where
    runs.lever <> 'control'
    and (rules.evaluation_id is null or runs.evaluation_id = rules.evaluation_id or runs.origin is not null)
group by all
having min(runs.entry) < coalesce(any_value(rules.amended_entry), 9223372036854775807)
