-- grain: one row per run_id, control_run_id
-- Runs whose control at the same seed and base was trained elsewhere: another kind of device, graphics card, processor, or version of torch,
-- numpy or flowlab. Bits then differ even where recipes do not. What either run does not tell (its environment lacks it, or says 'unknown')
-- is not different; a run that was continued elsewhere has both values.
create view unlike_runs as
with
    facts as (
        select run_id, 'device' as key, split_part(device, ':', 1) as value from attempts
        union all
        select run_id, key, value from environments where key in ('gpu', 'cpu', 'torch', 'numpy', 'flowlab')
    ),
    told as (
        select run_id, key, string_agg(distinct value, ' then ' order by value) as value
        from facts
        where value <> '' and value <> 'unknown'
        group by run_id, key
    ),
    placed as (
        select told.*, runs.base_id, runs.seed, runs.lever = 'control' and runs.recipe_digest = runs.control_digest as is_control
        from told
        join runs on runs.run_id = told.run_id
    )
select
    run.run_id,
    control.run_id as control_run_id,
    string_agg(format('{} {}, its control {}', run.key, run.value, control.value), '; ' order by run.key) as unlike
from placed as run
join placed as control
    on control.is_control
    and control.base_id = run.base_id
    and control.seed = run.seed
    and control.key = run.key
    and control.run_id <> run.run_id
where run.value <> control.value and not run.is_control
group by run.run_id, control.run_id
