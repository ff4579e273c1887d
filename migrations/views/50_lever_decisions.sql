-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- What each rule decides of each lever, with all that it rests on: for decisions and verdicts.
create view lever_decisions as
select
    * exclude (guarded, guarded_panel, doubts, reason, guards),
    if(is_last, improvement, null) as effect,
    case
        when not passes then 'drop'
        when passes is null and doubts.crash is not null then 'drop'
        when passes is null then 'undecided'
        when list_contains([of.passes for of in guards], false) then 'drop'
        when len([of for of in guards if of.passes is null]) > 0 then 'undecided'
        else 'stack'
    end as outcome,
    coalesce(doubts.post_hoc, doubts.chosen_panel, doubts.imported) is not null as is_barred,
    if(outcome = 'stack' and is_barred, 'undecided', outcome) as decision,
    concat_ws(
        '; ',
        -- A run that crashed is not waited for.
        if(doubts.crash is null, reason, nullif(regexp_replace(reason, '(; )?[^;]*: waits for [^;]*$', ''), '')),
        if(passes, nullif(array_to_string([of.reason for of in guards if of.passes is distinct from true], '; '), ''), null),
        doubts.crash,
        if(outcome = 'undecided', doubts.broken_panel, null),
        doubts.post_hoc,
        doubts.chosen_panel,
        doubts.imported
    ) as reason
from lever_guards
