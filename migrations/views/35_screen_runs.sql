-- grain: one row per screen, row_name
-- The runs of each screen: one a row of its design, at a seed of its own, with the levers that are on in it. value is the rule's primary
-- metric, of a run that was trained after the screen was sealed; solution is the newest one of the weights, and is_weighed whether it
-- looks at the row: a row that crashed is left out by a later one. Were a row run twice under two ids, the first that finished counts;
-- what was imported, or scored from another run, does not.
create view screen_runs as
with
    newest as (select screen, max(solution) as solution from screen_weights group by screen),
    weighed as (
        select distinct weights.screen, weights.row_name
        from screen_weights as weights
        semi join newest using (screen, solution)
    ),
    told as (
        select screens.screen, rows.row_name, screens.entry as screen_entry, runs.run_id, runs.entry, runs.origin, run_states.status
        from screens
        join screen_rows as rows on rows.screen = screens.screen
        join runs
            on runs.base_id = screens.base_id
            and runs.lever = rows.row_name
            and runs.recipe_digest = rows.recipe_digest
            and runs.seed = rows.seed
            and runs.replicate = 0
        left join run_states on run_states.run_id = runs.run_id
        where runs.run_id not in (select run_id from tags where taxonomy = 'scored-from')
        qualify row_number() over (
            partition by screens.screen, rows.row_name
            order by run_states.status is not distinct from 'finished' desc, runs.entry, runs.run_id
        ) = 1
    )
select
    screens.screen, screens.rule_digest, screens.base_id,
    rows.position, rows.row_name, rows.seed, rows.recipe_digest, rows.levers,
    newest.solution,
    weighed.row_name is not null as is_weighed,
    told.run_id,
    told.status,
    case
        when told.status = 'finished' and told.origin is null and told.entry >= told.screen_entry and abs(metrics.value) < 1e70
            then metrics.value
    end as value
from screens
join screen_rows as rows on rows.screen = screens.screen
join newest on newest.screen = screens.screen
join rules on rules.rule_digest = screens.rule_digest
left join weighed on weighed.screen = screens.screen and weighed.row_name = rows.row_name
left join told on told.screen = screens.screen and told.row_name = rows.row_name
left join metrics
    on metrics.run_id = told.run_id and metrics.number_key = rules.number_key and metrics.step = -1
