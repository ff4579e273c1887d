-- What predictions without a policy score on the same frames: repeat-last (the action of now) and train-median. They depend on the
-- cache alone, so that one finished run of it is enough.
create view baselines as
select cache_id, metric, channel, slice, readout, any_value(value) as value
from final_metrics
where readout in ('repeat-last', 'train-median')
group by cache_id, metric, channel, slice, readout
