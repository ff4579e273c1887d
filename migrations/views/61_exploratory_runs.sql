-- Lever runs that a rule will never look at: their seed is not one of its judged seeds, or they are replicates.
create view exploratory_runs as
select rules.name as rule, rules.rule_digest, runs.run_id, runs.lever, runs.seed, runs.replicate
from runs
cross join rules
left join rule_seeds as judged
    on judged.rule_digest = rules.rule_digest and judged.role = 'judged' and judged.seed = runs.seed
where runs.lever <> 'control' and (judged.seed is null or runs.replicate > 0)
