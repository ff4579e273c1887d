-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- How far each lever has got, and what each guardrail of the rule says of it: `guards` has what the rule says of each, in its order, and the
-- lists beside it what came of it, an entry a guardrail (guardrail_results has a row for each); NULL where it has none. An excess that is not
-- finite, or beyond 1e70, is within no margin.
create view lever_guards as
with
    asked as (
        select
            rule_digest,
            list_sort(list({
                'position': position, 'metric': metric, 'channel': channel, 'slice': slice, 'drive': drive, 'readout': readout,
                'margin': margin, 'sign': if(direction = 'higher', -1, 1),
                'text': format(
                    'guardrail {} {} {}: ',
                    channel,
                    metric,
                    case when drive = '' then slice when slice = 'overall' then 'drive:' || drive else slice || ':drive:' || drive end
                ),
                'margin_text': format('{:g}', margin)
            })) as guards
        from rule_guardrails
        group by rule_digest
    ),
    measured as (
        select
            reached.* exclude (guarded, guarded_panel),
            asked.guards,
            list_transform(
                list_transform(
                    list_transform(
                        [
                            [run."values"[list_position(run.positions, of.position)] for run in reached.guarded[:reached.last_seed]]
                            for of in asked.guards
                        ],
                        lambda seen, i: {
                            'num_lever': list_count(seen),
                            'lever_mean': if(list_count(seen) = reached.last_seed, list_avg(seen), null),
                            'panel_mean': reached.guarded_panel."values"[
                                list_position(reached.guarded_panel.positions, asked.guards[i].position)
                            ]
                        }
                    ),
                    lambda found, i: struct_insert(found, excess := asked.guards[i].sign * (found.lever_mean - found.panel_mean))
                ),
                lambda found: struct_insert(found, is_reckonable := isfinite(found.excess) and abs(found.excess) < 1e70)
            ) as guard_results
        from lever_reached as reached
        left join asked on asked.rule_digest = reached.rule_digest
    )
select
    *,
    list_transform(guard_results, lambda result, i: result.is_reckonable and round(result.excess - guards[i].margin, 9) <= 0)
        as guard_passes,
    list_transform(guard_results, lambda result, i: guards[i].text || case
        when not result.is_reckonable then 'no number to reckon with'
        when result.excess is null then 'waits for its runs or the panel'
        else format(
            '{:.4f} against the panel''s {:.4f}, {} the margin {}',
            result.lever_mean,
            result.panel_mean,
            if(round(result.excess - guards[i].margin, 9) <= 0, 'within', 'over'),
            guards[i].margin_text
        )
    end) as guard_reasons
from measured
