-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- How much a lever's effect depends on which drives validate: its standard deviation over 200 resamples of the
-- validation drives. Draw k of resample b takes the drive number md5_number_lower('b,k') modulo their number, in the
-- order of their names: the same drives for every lever, on every machine. Only where all runs of the lever and the
-- panel have the primary metric per drive, of 2 drives or more.
create view drive_bootstrap as
with
    per_drive as (
        select judged.*, by_drive.drive, by_drive.value as drive_value, sizes.value as num_frames
        from judged_values as judged
        join rules on rules.rule_digest = judged.rule_digest
        join metrics as by_drive
            on by_drive.run_id = judged.run_id
            and by_drive.metric = rules.metric
            and by_drive.channel = rules.channel
            and by_drive.readout = rules.readout
            and by_drive.step = -1
            and by_drive.slice = rules.slice
            and by_drive.drive <> ''
        join metrics as sizes
            on sizes.run_id = judged.run_id
            and sizes.metric = 'num_frames'
            and sizes.channel = ''
            and sizes.slice = by_drive.slice
            and sizes.drive = by_drive.drive
            and sizes.readout = by_drive.readout
            and sizes.step = -1
        where
            judged.role = 'primary' and rules.drive = ''
            and abs(by_drive.value) < 1e70 and sizes.value > 0 and sizes.value < 1e70
    ),
    panel_drives as (
        select
            rule_digest, base_id, drive,
            avg(drive_value) as panel_mean,
            count(*) as num_controls
        from per_drive
        join rule_seeds using (rule_digest, seed)
        where rule_seeds.role = 'panel' and is_control
        group by all
    ),
    lever_drives as (
        select
            rule, rule_digest, base_id, lever, recipe_digest, drive, num_frames,
            avg(drive_value) as lever_mean,
            count(*) as num_seeds
        from per_drive
        join rule_seeds using (rule_digest, seed)
        where rule_seeds.role = 'judged' and lever <> 'control' and not is_placebo
        group by all
    ),
    lever_runs as (
        select rule_digest, base_id, lever, recipe_digest, count(*) as num_seeds
        from judged_values
        join rule_seeds using (rule_digest, seed)
        where judged_values.role = 'primary' and rule_seeds.role = 'judged'
        group by all
    ),
    compared as (
        select
            lever_drives.*,
            panel_drives.panel_mean - lever_drives.lever_mean as effect,
            row_number() over (per_lever order by drive) - 1 as drive_index,
            count(*) over per_lever as num_drives,
            bool_and(
                coalesce(lever_drives.num_seeds = lever_runs.num_seeds, false)
                and coalesce(panel_stats.is_complete and panel_drives.num_controls = panel_stats.panel_count, false)
            ) over per_lever as is_whole
        from lever_drives
        join lever_runs using (rule_digest, base_id, lever, recipe_digest)
        left join panel_drives using (rule_digest, base_id, drive)
        left join panel_stats
            on panel_stats.rule_digest = lever_drives.rule_digest
            and panel_stats.role = 'primary'
            and panel_stats.base_id = lever_drives.base_id
        window per_lever as (partition by lever_drives.rule_digest, lever_drives.base_id, lever_drives.lever, lever_drives.recipe_digest)
    ),
    draws as (
        select num_drives, resample, draw
        from (select distinct num_drives from compared)
        cross join unnest(range(1, 201)) as resamples (resample)
        cross join unnest(range(1, num_drives + 1)) as draws (draw)
    ),
    picked as (
        select
            num_drives,
            resample,
            md5_number_lower(resample || ',' || draw) % num_drives as drive_index,
            count(*) as times
        from draws
        group by all
    ),
    resampled as (
        select
            rule, rule_digest, base_id, lever, recipe_digest, num_drives, resample,
            sum(times * num_frames * effect) / sum(times * num_frames) as effect
        from compared
        join picked using (num_drives, drive_index)
        where is_whole and num_drives >= 2
        group by all
    )
select
    rule, rule_digest, base_id, lever, recipe_digest, num_drives,
    stddev_samp(effect) as evaluation_noise
from resampled
group by all
