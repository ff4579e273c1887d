-- grain: one row per run_id, metric, channel, slice, drive, readout
-- Lever and control at one seed, on one base; every final metric that both have.
-- unlike tells what differs between where the two were trained, NULL where nothing that changes bits does.
-- For errors improvement = control - lever > 0 is better (rules turn the sign for metrics of which more is better); delta = lever - control.
create view pairs as
select
    lever.base_id,
    lever.lever,
    lever.recipe_digest,
    lever.seed,
    lever.run_id,
    control.run_id as control_run_id,
    lever_metric.metric,
    lever_metric.channel,
    lever_metric.slice,
    lever_metric.drive,
    lever_metric.readout,
    lever_metric.value as lever_value,
    control_metric.value as control_value,
    control_metric.value - lever_metric.value as improvement,
    lever_metric.value - control_metric.value as delta,
    unlike_runs.unlike
from evidence as lever
join evidence as control
    on control.is_control
    and control.base_id = lever.base_id
    and control.seed = lever.seed
join metrics as lever_metric on lever_metric.run_id = lever.run_id and lever_metric.step = -1
join metrics as control_metric
    on control_metric.run_id = control.run_id
    and control_metric.step = -1
    and control_metric.metric = lever_metric.metric
    and control_metric.channel = lever_metric.channel
    and control_metric.slice = lever_metric.slice
    and control_metric.drive = lever_metric.drive
    and control_metric.readout = lever_metric.readout
left join unlike_runs on unlike_runs.run_id = lever.run_id and unlike_runs.control_run_id = control.run_id
where lever.lever <> 'control'
