create view pooled_sigma as
select rule, rule_digest, role, metric, channel, slice, readout, stddev_samp(value) as sigma, count(*) - 1 as df
from judged_values join rule_metrics using (rule, rule_digest, role, position) where is_control group by all
