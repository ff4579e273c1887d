-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- Each lever under each sealed rule that judges it: its runs are evaluated as the rule says (or imported: shown, never stacked),
-- and it had begun, by the order of entries, before the rule was amended away. For a rule that confirms levers of screens
-- those of a screen begin with it. Rows of a screen, which have many levers on, are no levers.
create view judged_levers as
select rule, rule_digest, base_id, lever, recipe_digest
from (
    select rules.name as rule, rules.rule_digest, runs.base_id, runs.lever, runs.recipe_digest, runs.entry, rules.amended_entry
    from (
        select runs.*
        from runs
        anti join screen_rows as rows
            on rows.row_name = runs.lever and rows.recipe_digest = runs.recipe_digest and rows.seed = runs.seed
        anti join tags on tags.run_id = runs.run_id and tags.taxonomy = 'purpose'
    ) as runs
    cross join (
        select rules.rule_digest, rules.name, rules.evaluation_id, amendments.entry as amended_entry
        from rules
        left join amendments on amendments.amended_digest = rules.rule_digest
    ) as rules
    where
        runs.lever <> 'control'
        and (rules.evaluation_id is null or runs.evaluation_id = rules.evaluation_id or runs.origin is not null)
    union all
    select
        rules.name, rules.rule_digest, screens.base_id, levers.lever, levers.recipe_digest, screens.entry, amendments.entry
    from screens
    join screen_levers as levers on levers.screen = screens.screen
    join rules on rules.evaluation_id is null or rules.evaluation_id = screens.evaluation_id
    join rule_terms as terms on terms.rule_digest = rules.rule_digest and terms.screen_bar is not null
    left join amendments on amendments.amended_digest = rules.rule_digest
)
group by rule, rule_digest, base_id, lever, recipe_digest
having min(entry) < coalesce(any_value(amended_entry), 9223372036854775807)
