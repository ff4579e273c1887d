-- grain: one row per rule_digest, run_id
-- Lever runs that a rule will never look at, and why: they have a purpose of their own (exploratory, full-path), their seed is not one of its
-- judged seeds, they are replicates, or they were evaluated in another way than the rule names. Rows of a screen are looked at together (screen_effects).
create view exploratory_runs as
select
    runs.rule,
    runs.rule_digest,
    runs.run_id,
    runs.lever,
    runs.seed,
    runs.replicate,
    concat_ws(
        ', ',
        runs.purpose,
        case when judged.seed is null then 'seed' end,
        case when runs.replicate > 0 then 'replicate' end,
        case when runs.evaluation_id <> runs.judged_evaluation_id and runs.origin is null then 'evaluation' end
    ) as why
from (
    select runs.*, purposes.value as purpose, rules.name as rule, rules.rule_digest, rules.evaluation_id as judged_evaluation_id
    from runs
    left join tags as purposes on purposes.run_id = runs.run_id and purposes.taxonomy = 'purpose'
    cross join rules
) as runs
left join rule_seeds as judged
    on judged.rule_digest = runs.rule_digest and judged.role = 'judged' and judged.seed = runs.seed
anti join screen_rows as rows on rows.row_name = runs.lever and rows.recipe_digest = runs.recipe_digest and rows.seed = runs.seed
where runs.lever <> 'control' and why <> ''
