-- grain: one row per rule_digest, base_id, seed
-- Was the control lucky at a seed of the panel? z compares it with the other controls, bar is what one of them exceeds by luck
-- alone in 5% of all panels, on either side. Told only where levers ran at that seed, since only these were compared with it;
-- num_beaten of them were better. Levers that really are better beat any control.
create view control_luck as
with
    -- sign is -1 where higher is better
    controls as (
        select panel.*, if(rules.direction = 'higher', -1, 1) as sign
        from panel
        join rules using (rule_digest)
        where panel.role = 'primary'
    ),
    others as (
        select
            control.run_id,
            control.rule_digest,
            avg(other.value) as others_mean,
            stddev_samp(other.value) as others_sd,
            count(*) + 1 as num_controls
        from controls as control
        join controls as other
            on other.rule_digest = control.rule_digest
            and other.base_id = control.base_id
            and other.seed <> control.seed
        group by all
    ),
    -- Above 64 controls: the normal quantile of Hastings (1955; Abramowitz and Stegun 26.2.23), and two terms of Student's t beyond it.
    normal as (
        select *, w - (2.515517 + 0.802853 * w + 0.010328 * w * w) / (1 + 1.432788 * w + 0.189269 * w * w + 0.001308 * w ** 3) as u
        from (select *, sqrt(-2 * ln(0.025 / num_controls)) as w, num_controls - 2 as df from others)
    ),
    bars as (
        select
            normal.run_id, normal.rule_digest, normal.others_mean, normal.others_sd,
            sqrt(num_controls / (num_controls - 1)) * case
                when num_controls > 64 then u + (u ** 3 + u) / (4 * df) + (5 * u ** 5 + 16 * u ** 3 + 3 * u) / (96 * df * df)
                else luck_quantiles.quantile
            end as bar
        from normal
        left join luck_quantiles using (num_controls)
    ),
    levers as (
        select
            rule_digest, base_id, seed,
            count(*) as num_levers,
            count(*) filter (where if(rules.direction = 'higher', -1, 1) * (control_value - lever_value) > 0) as num_beaten
        from family_pairs
        join (select rule_digest, direction from rules) as rules using (rule_digest)
        group by all
    ),
    compared as (
        select
            controls.* exclude (role, position, run_id, sign),
            bars.others_mean,
            bars.others_sd,
            controls.sign * (controls.value - bars.others_mean) / nullif(bars.others_sd, 0) as z,
            bars.bar,
            coalesce(levers.num_levers, 0) as num_levers,
            coalesce(levers.num_beaten, 0) as num_beaten
        from controls
        left join bars using (run_id, rule_digest)
        left join levers using (rule_digest, base_id, seed)
    ),
    flagged as (
        select
            *,
            num_levers > 0 and coalesce(isfinite(z) and z > bar, false) as is_unlucky,
            num_levers > 0 and coalesce(isfinite(z) and z < -bar, false) as is_lucky
        from compared
    )
select
    *,
    format(
        'control at {}: {}; {} of {} levers beat it: {}',
        seed,
        coalesce(
            format('{:.2f} sd {} than the others (bar {:.1f})', abs(z), if(z > 0, 'worse', 'better'), bar),
            'fewer than two others, or they do not vary'
        ),
        num_beaten,
        num_levers,
        case when is_unlucky then 'unlucky' when is_lucky then 'lucky' else 'nothing unusual' end
    ) as reason
from flagged
