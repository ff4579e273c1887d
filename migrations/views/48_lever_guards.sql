-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- How far each lever has got, and what each guardrail of the rule says of it, in one list in the rule's order (guardrail_results has a
-- row for each entry); NULL where it has none. An excess that is not finite, or beyond 1e70, is within no margin.
create view lever_guards as
with
    asked as (
        select
            rule_digest,
            list_sort(list({
                'position': position, 'metric': metric, 'channel': channel, 'slice': slice, 'drive': drive, 'readout': readout,
                'margin': margin, 'sign': if(direction = 'higher', -1, 1),
                'text': format(
                    'guardrail {} {} {}',
                    channel,
                    metric,
                    case when drive = '' then slice when slice = 'overall' then 'drive:' || drive else slice || ':drive:' || drive end
                ),
                'margin_text': format('{:g}', margin)
            })) as guards
        from rule_guardrails
        group by rule_digest
    ),
    looked_at as (
        select
            reached.*,
            asked.guards,
            reached.guarded[:reached.last_seed] as seen
        from lever_reached as reached
        left join asked on asked.rule_digest = reached.rule_digest
    ),
    means as (
        select * exclude (seen) replace ([
            struct_insert(
                of,
                num_lever := list_count([run[of.position] for run in seen]),
                lever_mean := list_avg([run[of.position] for run in seen]),
                panel_mean := guarded_panel[of.position]
            )
            for of in guards
        ] as guards)
        from looked_at
    ),
    compared as (
        select * replace ([
            struct_insert(
                struct_update(of, lever_mean := if(of.num_lever = last_seed, of.lever_mean, null)),
                excess := if(of.num_lever = last_seed, of.sign * (of.lever_mean - of.panel_mean), null)
            )
            for of in guards
        ] as guards)
        from means
    ),
    reckoned as (
        select * replace ([
            struct_insert(of, is_reckonable := isfinite(of.excess) and abs(of.excess) < 1e70)
            for of in guards
        ] as guards)
        from compared
    )
select * replace ([
    struct_insert(
        of,
        passes := of.is_reckonable and round(of.excess - of.margin, 9) <= 0,
        reason := of.text || ': ' || coalesce(
            if(not of.is_reckonable, 'no number to reckon with', null),
            format(
                '{:.4f} against the panel''s {:.4f}, {} the margin {}',
                of.lever_mean,
                of.panel_mean,
                if(round(of.excess - of.margin, 9) <= 0, 'within', 'over'),
                of.margin_text
            ),
            'waits for its runs or the panel'
        )
    )
    for of in guards
] as guards)
from reckoned
