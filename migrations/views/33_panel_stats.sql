-- grain: one row per rule_digest, base_id, position
-- Mean and sample standard deviation of each panel. A panel counts for a rule only once it is complete.
create view panel_stats as
select
    panel.rule,
    panel.rule_digest,
    panel.base_id,
    panel.role,
    panel.position,
    avg(panel.value) as panel_mean,
    stddev_samp(panel.value) as panel_sd,
    count(*) as panel_count,
    any_value(panel_seeds.panel_size) as panel_size,
    count(*) = any_value(panel_seeds.panel_size) as is_complete
from panel
join panel_seeds on panel_seeds.rule_digest = panel.rule_digest and panel_seeds.seed = panel.seed
group by panel.rule, panel.rule_digest, panel.base_id, panel.role, panel.position
