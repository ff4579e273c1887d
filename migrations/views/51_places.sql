-- Where each rule wants runs: on the newest base, if it is evaluated as the rule says. Where no base was told (in a ledger of an
-- early flowlab), wherever runs are. What was imported is wanted nowhere.
create view places as
with
    newest as (select control_digest, cache_id, evaluation_id from bases order by entry desc limit 1),
    anywhere as (
        select distinct control_digest, cache_id, evaluation_id
        from runs
        where origin is null and not exists (select 1 from bases)
    )
select rules.name as rule, rules.rule_digest, place.control_digest, place.cache_id, place.evaluation_id
from rules
join (select * from newest union all select * from anywhere) as place
    on rules.evaluation_id is null or rules.evaluation_id = place.evaluation_id
