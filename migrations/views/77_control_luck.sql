-- grain: one row per rule_digest, base_id, seed
-- Was the control lucky at a seed of the panel? z compares it with the other controls, chance with the levers run at
-- that seed: the probability that so many or more beat it, were it one of them. Levers that really are better make a
-- control look unlucky as well.
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
            stddev_samp(other.value) as others_sd
        from controls as control
        join controls as other
            on other.rule_digest = control.rule_digest
            and other.base_id = control.base_id
            and other.seed <> control.seed
        group by all
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
            others.others_mean,
            others.others_sd,
            controls.sign * (controls.value - others.others_mean) / nullif(others.others_sd, 0) as z,
            coalesce(levers.num_levers, 0) as num_levers,
            coalesce(levers.num_beaten, 0) as num_beaten
        from controls
        left join others using (run_id, rule_digest)
        left join levers using (rule_digest, base_id, seed)
    ),
    flagged as (
        select
            *,
            (num_levers - num_beaten + 1) / (num_levers + 1) as chance,
            coalesce(isfinite(z) and z > 2, false) or (num_levers - num_beaten + 1) / (num_levers + 1) < 0.05 as is_unlucky,
            coalesce(isfinite(z) and z < -2, false) as is_lucky
        from compared
    )
select
    *,
    format(
        'control at {}: {}; {} of {} levers beat it, chance {:.3f}: {}',
        seed,
        coalesce(
            format('{:.2f} sd {} than the others', abs(z), if(z > 0, 'worse', 'better')),
            'fewer than two others, or they do not vary'
        ),
        num_beaten,
        num_levers,
        chance,
        concat_ws(
            ' and ',
            if(is_unlucky, 'unlucky', null),
            if(is_lucky, 'lucky', null),
            if(is_unlucky or is_lucky, null, 'nothing unusual')
        )
    ) as reason
from flagged
