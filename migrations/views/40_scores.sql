-- grain: one row per rule_digest, run_id
-- Each run before each rule: its state, and what it ended with on the rule's primary metric (`value`) and, by position, on its guardrails
-- (`guarded`). The views of a verdict form one chain from here to verdicts, each naming the one before it once: DuckDB plans and runs a
-- view anew wherever it is named, and this one reads the metrics.
-- A run is older than a rule by the order of entries, so that no clock has to be right; those that came in from elsewhere also by time.
create view scores as
with
    measured as (
        select
            rule_digest,
            run_id,
            any_value(value) filter (position = 0) as value,
            map_from_entries(list((position, value)) filter (position > 0)) as guarded
        from rule_values
        group by rule_digest, run_id
    )
select
    rules.rule_digest, runs.run_id, runs.base_id, runs.evaluation_id, runs.lever, runs.recipe_digest, runs.seed, runs.replicate,
    runs.is_control,
    runs.is_evidence,
    runs.origin is not null as is_imported,
    runs.entry < rules.entry or runs.time_us < rules.time_us as is_older,
    runs.status,
    runs.step,
    measured.value,
    measured.guarded
from told_runs as runs
cross join rules
left join measured on measured.run_id = runs.run_id and measured.rule_digest = rules.rule_digest
