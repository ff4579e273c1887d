-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- How much a lever's effect depends on which drives validate (evaluation_noise, one standard deviation): from how far its effects on
-- single drives lie from that on all, weighted by their frames. They would also where all drives are alike, since each run
-- does better on some drives than on others; by how much is told by runs at other seeds, and taken off. So lever and panel need
-- two seeds each, all with the primary metric per drive, of 2 drives or more. 0 where the drives differ by no more than runs do.
create view drive_noise as
with
    per_drive as (
        select
            judged.*,
            by_drive.drive,
            by_drive.value as drive_value,
            sizes.value as num_frames,
            sum(sizes.value * by_drive.value) over (partition by judged.rule_digest, judged.run_id)
            / sum(sizes.value) over (partition by judged.rule_digest, judged.run_id) as run_value
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
    -- What a drive is above all drives, in the mean of a side's runs, and the variance of that mean.
    panel_drives as (
        select
            rule_digest, base_id, drive,
            avg(drive_value - run_value) as panel_above,
            var_samp(drive_value - run_value) / count(*) as panel_variance,
            count(*) as num_controls
        from per_drive
        join rule_seeds using (rule_digest, seed)
        where rule_seeds.role = 'panel' and is_control
        group by all
    ),
    lever_drives as (
        select
            rule, rule_digest, base_id, lever, recipe_digest, drive, num_frames,
            avg(drive_value - run_value) as lever_above,
            var_samp(drive_value - run_value) / count(*) as lever_variance,
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
            num_frames / sum(num_frames) over per_lever as weight,
            (panel_above - lever_above) ** 2 - panel_variance - lever_variance as square,
            coalesce(lever_drives.num_seeds = lever_runs.num_seeds, false)
            and coalesce(panel_stats.is_complete and panel_drives.num_controls = panel_stats.panel_count, false) as is_whole
        from lever_drives
        join lever_runs using (rule_digest, base_id, lever, recipe_digest)
        left join panel_drives using (rule_digest, base_id, drive)
        left join panel_stats
            on panel_stats.rule_digest = lever_drives.rule_digest
            and panel_stats.role = 'primary'
            and panel_stats.base_id = lever_drives.base_id
        window per_lever as (partition by lever_drives.rule_digest, lever_drives.base_id, lever_drives.lever, lever_drives.recipe_digest)
    ),
    weighted as (
        select *, sum(weight * weight) over (partition by rule_digest, base_id, lever, recipe_digest) as sum_weights
        from compared
    )
select
    rule, rule_digest, base_id, lever, recipe_digest,
    count(*) as num_drives,
    -- Drives' own effects of variance v lie v (1 - 2 weight + sum_weights) from their mean, whose variance is v sum_weights.
    sqrt(greatest(
        0, any_value(sum_weights) * sum(weight ** 2 * square) / sum(weight ** 2 * (1 - 2 * weight + sum_weights))
    )) as evaluation_noise
from weighted
group by all
having count(*) > 1 and count(square) = count(*) and bool_and(is_whole)
