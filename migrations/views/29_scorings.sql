-- grain: one row per run_id, source_run_id
-- Policies that were scored again without training: run_id is the scoring, with numbers of its own, source_run_id the run that trained
-- the policy; of an ensemble there are several. Beside each how it was evaluated, and how its source was.
create view scorings as
select
    runs.run_id,
    tags.value as source_run_id,
    runs.lever,
    runs.seed,
    runs.evaluation_id,
    runs.evaluation_json,
    source.evaluation_id as source_evaluation_id,
    source.evaluation_json as source_evaluation_json
from tags
join runs on runs.run_id = tags.run_id
left join runs as source on source.run_id = tags.value
where tags.taxonomy = 'scored-from'
