-- grain: one row per rule_digest, position, run_id
-- What each run ended with on each metric of each rule; judged_values keeps those of the runs in evidence that can be reckoned with.
create view rule_values as
select
    rule_metrics.rule,
    rule_metrics.rule_digest,
    rule_metrics.role,
    rule_metrics.position,
    metrics.run_id,
    metrics.value
from rule_metrics
join metrics on metrics.number_key = rule_metrics.number_key and metrics.step = -1
