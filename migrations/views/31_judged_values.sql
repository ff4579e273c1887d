-- The value of each run in evidence on each metric of each rule.
create view judged_values as
select
    rule_metrics.rule,
    rule_metrics.rule_digest,
    rule_metrics.role,
    rule_metrics.position,
    evidence.*,
    metrics.value
from rule_metrics
join metrics
    on metrics.metric = rule_metrics.metric
    and metrics.channel = rule_metrics.channel
    and metrics.slice = rule_metrics.slice
    and metrics.readout = rule_metrics.readout
    and metrics.step = -1
join evidence using (run_id)
