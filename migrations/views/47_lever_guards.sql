-- How far each lever has got, once for each guardrail of the rule, and once (guard_position NULL) where it has none.
create view lever_guards as
with
    measured as (
        select
            reached.*,
            guard.position as guard_position,
            guard.metric,
            guard.channel,
            guard.slice,
            guard.readout,
            guard.margin,
            if(guard.direction = 'higher', -1, 1) as sign,
            [cell.guarded[guard.position] for cell in cells[:last_seed]] as seen,
            panel_guarded[guard.position] as guard_panel_mean
        from lever_reached as reached
        left join rule_guardrails as guard using (rule_digest)
    ),
    compared as (
        select
            * exclude (seen),
            list_count(seen) as num_lever,
            case when list_count(seen) = last_seed then list_avg(seen) end as lever_mean,
            sign * (lever_mean - guard_panel_mean) as excess
        from measured
    )
select
    * exclude (sign),
    round(excess - margin, 9) <= 0 as guard_passes,
    format(
        'guardrail {} {} {}: {}',
        channel,
        metric,
        slice,
        coalesce(
            format(
                '{:.4f} against the panel''s {:.4f}, {} the margin {:g}',
                lever_mean,
                guard_panel_mean,
                case when round(excess - margin, 9) <= 0 then 'within' else 'over' end,
                margin
            ),
            'waits for its runs or the panel'
        )
    ) as guard_reason
from compared
