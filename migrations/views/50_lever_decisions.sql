-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- What each rule decides of each lever, with all that it rests on: for decisions and verdicts.
create view lever_decisions as
select
    * exclude (doubts, reason, guards, guard_results, guard_passes, guard_reasons) replace (
        -- A broken panel lets nothing be stacked, so no run would change that.
        if(doubts.broken_panel is null, owed, []) as owed
    ),
    if(is_last and isfinite(improvement), improvement, null) as effect,
    case
        when not passes then 'drop'
        when passes is null and doubts.crash is not null then 'drop'
        when passes is null then 'undecided'
        when list_contains(guard_passes, false) then 'drop'
        when len(guard_passes) > list_count(guard_passes) then 'undecided'
        else 'stack'
    end as outcome,
    coalesce(doubts.post_hoc, doubts.chosen_panel, doubts.imported) is not null as is_barred,
    if(outcome = 'stack' and is_barred, 'undecided', outcome) as decision,
    concat_ws(
        '; ',
        -- A run that crashed is not waited for, nor anything else once one of the panel has.
        if(doubts.crash is null and (outcome <> 'undecided' or doubts.broken_panel is null), reason, nullif(regexp_replace(reason, '(; )?[^;]*: waits for [^;]*$', ''), '')),
        if(
            passes,
            nullif(array_to_string(list_filter(guard_reasons, lambda _, i: guard_passes[i] is distinct from true), '; '), ''),
            null
        ),
        doubts.crash,
        if(outcome = 'undecided', doubts.broken_panel, null),
        doubts.post_hoc,
        doubts.chosen_panel,
        doubts.imported,
        doubts.unlike
    ) as reason
from lever_guards
