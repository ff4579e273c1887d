-- grain: one row per rule_digest, base_id, lever, recipe_digest, seed
-- Each lever run against its control and against the panel, and in between: as much of the control's luck at that seed
-- is taken off as the family's rho says they share. rho 1 gives delta, rho 0 gives panel_delta. All are lever -
-- something: below 0 is better.
create view adjusted_deltas as
with
    against as (
        select
            pairs.*,
            case when panel_stats.is_complete then panel_stats.panel_mean end as panel_mean,
            case when correlation.is_usable then correlation.rho end as rho
        from family_pairs as pairs
        left join seed_correlation as correlation using (rule_digest, base_id, family)
        left join panel_stats
            on panel_stats.rule_digest = pairs.rule_digest
            and panel_stats.role = 'primary'
            and panel_stats.base_id = pairs.base_id
    )
select
    rule, rule_digest, base_id, lever, recipe_digest, seed, family,
    lever_value - control_value as delta,
    lever_value - panel_mean as panel_delta,
    rho,
    (lever_value - panel_mean) - rho * (control_value - panel_mean) as adjusted_delta
from against
