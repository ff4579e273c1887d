-- grain: one row per screen, row_name
-- The runs of each screen: one a row of its design, at a seed of its own, with the levers that are on in it. value is the rule's primary
-- metric, of a run that was trained after the screen was sealed; solution is the newest one of the weights, and is_weighed whether it
-- looks at the row: a row that crashed is left out by a later one.
create view screen_runs as
with
    newest as (select screen, max(solution) as solution from screen_weights group by screen),
    weighed as (
        select distinct weights.screen, weights.row_name
        from screen_weights as weights
        semi join newest using (screen, solution)
    )
select
    screens.screen, screens.rule_digest, screens.base_id,
    rows.position, rows.row_name, rows.seed, rows.recipe_digest, rows.levers,
    newest.solution,
    weighed.row_name is not null as is_weighed,
    run.run_id,
    run.status,
    case when run.is_evidence and abs(rule_values.value) < 1e70 then rule_values.value end as value
from screens
join screen_rows as rows on rows.screen = screens.screen
join newest on newest.screen = screens.screen
left join weighed on weighed.screen = screens.screen and weighed.row_name = rows.row_name
left join told_runs as run
    on run.base_id = screens.base_id
    and run.lever = rows.row_name
    and run.recipe_digest = rows.recipe_digest
    and run.seed = rows.seed
    and run.replicate = 0
    and run.origin is null
    and run.trained_entry >= screens.entry
left join rule_values
    on rule_values.run_id = run.run_id and rule_values.rule_digest = screens.rule_digest and rule_values.position = 0
