-- Mean and sample standard deviation of each panel. A panel counts for a rule only once it is complete.
create view panel_stats as
with sizes as (select rule_digest, count(*) as panel_size from rule_seeds where role = 'panel' group by rule_digest)
select
    panel.rule,
    panel.rule_digest,
    panel.control_digest,
    panel.cache_id,
    panel.evaluation_id,
    panel.role,
    panel.position,
    avg(panel.value) as panel_mean,
    stddev_samp(panel.value) as panel_sd,
    count(*) as panel_count,
    any_value(sizes.panel_size) as panel_size,
    count(*) = any_value(sizes.panel_size) as is_complete
from panel
join sizes using (rule_digest)
group by all
