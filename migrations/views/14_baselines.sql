-- grain: one row per base_id, metric, channel, slice, drive, readout
-- What predictions without a policy score on the same frames: repeat-last (the action of now) and train-median. They depend on the
-- validation frames and on the control's train split, which a base has; one finished run of it is enough.
create view baselines as
select base_id, metric, channel, slice, drive, readout, any_value(value) as value
from final_metrics
where readout in ('repeat-last', 'train-median')
group by base_id, metric, channel, slice, drive, readout
