-- grain: one row per screen, row_name
-- The runs of each screen: one a row of its design, at a seed of its own, with the levers that are on in it. value is the rule's primary
-- metric, of the first run that was trained after the screen was sealed and finished: not imported, nor scored again. solution is the newest one of the weights, and
-- is_weighed whether it looks at the row: it may leave out rows of whose run no value will come, and no others.
create view screen_runs as
with
    -- Joined from the screens on, and without the views of all runs, so that nothing is read where there are none.
    found as (
        select
            screens.screen, rows.row_name,
            arg_min(
                {
                    'run_id': runs.run_id,
                    'status': run_states.status,
                    'value': if(run_states.status = 'finished' and abs(metrics.value) < 1e70, metrics.value, null)
                },
                {'is_open': run_states.status is distinct from 'finished', 'entry': runs.entry, 'run_id': runs.run_id}
            ) as run
        from screens
        join rules on rules.rule_digest = screens.rule_digest
        join screen_rows as rows on rows.screen = screens.screen
        join runs
            on runs.base_id = screens.base_id
            and runs.lever = rows.row_name
            and runs.recipe_digest = rows.recipe_digest
            and runs.seed = rows.seed
            and runs.replicate = 0
            and runs.origin is null
            and runs.entry >= screens.entry
        anti join tags on tags.run_id = runs.run_id and tags.taxonomy = 'scored-from'
        left join run_states on run_states.run_id = runs.run_id
        left join metrics on metrics.run_id = runs.run_id and metrics.number_key = rules.number_key and metrics.step = -1
        group by screens.screen, rows.row_name
    ),
    told as (
        select
            screens.screen, screens.rule_digest, screens.base_id,
            rows.position, rows.row_name, rows.seed, rows.recipe_digest, rows.levers, found.run
        from screens
        join screen_rows as rows on rows.screen = screens.screen
        left join found on found.screen = rows.screen and found.row_name = rows.row_name
    ),
    awaited as (
        select screen, list(row_name) filter (run.value is not null or coalesce(run.status, '') not in ('finished', 'crashed')) as rows
        from told
        group by screen
    ),
    solutions as (select screen, solution, list(distinct row_name) as rows from screen_weights group by screen, solution),
    newest as (
        select solutions.screen, max(solutions.solution) as solution, arg_max(solutions.rows, solutions.solution) as rows
        from solutions
        join awaited on awaited.screen = solutions.screen and list_has_all(solutions.rows, coalesce(awaited.rows, []))
        group by solutions.screen
    )
select
    told.screen, told.rule_digest, told.base_id,
    told.position, told.row_name, told.seed, told.recipe_digest, told.levers,
    newest.solution,
    list_contains(newest.rows, told.row_name) as is_weighed,
    told.run.run_id, told.run.status, told.run.value
from told
join newest on newest.screen = told.screen
