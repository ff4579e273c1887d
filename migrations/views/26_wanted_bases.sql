-- grain: one row per rule_digest, base_id
-- Where each rule wants runs: on the newest base, if it is evaluated as the rule says. Where no base was told (in a ledger of an
-- early flowlab), wherever runs are. What was imported is wanted nowhere. control_digest is the recipe of the control there.
create view wanted_bases as
with
    newest as materialized (select base_id, control_digest, evaluation_id from bases order by entry desc limit 1),
    anywhere as (
        select distinct base_id, control_digest, evaluation_id
        from runs
        where origin is null and not exists (select 1 from newest)
    )
select rules.name as rule, rules.rule_digest, wanted.base_id, wanted.control_digest
from rules
join (select * from newest union all select * from anywhere) as wanted
    on rules.evaluation_id is null or rules.evaluation_id = wanted.evaluation_id
