-- grain: one row per base_id, metric, channel, slice, drive, readout
-- How far the control's runs on a base lie apart, on each final number: sd over seeds, and its 95% interval. Nothing selected these runs. A
-- rule that is about to be sealed looks here, since nothing else is known then. What was imported has no say in it.
create view control_spread as
with
    spread as (
        select
            evidence.base_id, metrics.metric, metrics.channel, metrics.slice, metrics.drive, metrics.readout,
            count(*) as num_controls,
            avg(metrics.value) as mean,
            stddev_samp(metrics.value) as sd,
            count(*) - 1 as df
        from evidence
        join runs on runs.run_id = evidence.run_id and runs.origin is null
        join metrics on metrics.run_id = evidence.run_id and metrics.step = -1
        where evidence.is_control and abs(metrics.value) < 1e70
        group by all
        having count(*) >= 2
    )
select
    base_id, metric, channel, slice, drive, readout, num_controls, mean, sd, df,
    sd * sqrt(df / upper_quantile) as sd_low,
    sd * sqrt(df / lower_quantile) as sd_high
from spread
left join chi_square_quantiles using (df)
