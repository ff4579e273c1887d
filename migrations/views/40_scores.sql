-- grain: one row per rule_digest, run_id
-- Each run before each rule: its state, and what it ended with on the rule's primary metric (`value`) and on its guardrails (`guarded`: their
-- positions, and in the same order the values; no map, whose keys DuckDB would look through for doubles). The views of a verdict form one
-- chain from here to verdicts, each naming the one before it once: DuckDB plans and runs a view anew wherever it is named, and this one reads
-- the metrics.
-- A run is older than a rule by the order of entries, so that no clock has to be right; a scoring of a policy is as old as the run that
-- trained it. is_calibration: a control that came after the rule's calibration, and so may be looked at before the rule is sealed. Rules
-- that name no evaluation are from before there were entries: of these only clocks can tell.
create view scores as
with
    measured as (
        select
            rule_digest,
            run_id,
            any_value(value) filter (position = 0) as value,
            list(position) filter (position > 0) as guard_positions,
            list(value) filter (position > 0) as guard_values
        from rule_values
        group by rule_digest, run_id
    )
select
    runs.rule_digest, runs.run_id, runs.base_id, runs.evaluation_id, runs.lever, runs.recipe_digest, runs.seed, runs.replicate,
    runs.is_control,
    runs.is_evidence,
    runs.origin is not null as is_imported,
    runs.trained_entry < runs.sealed_entry or (runs.sealed_evaluation_id is null and runs.trained_us < runs.sealed_us) as is_older,
    runs.is_control and coalesce(runs.trained_entry >= runs.panel_entry, false) as is_calibration,
    runs.status,
    runs.step,
    measured.value,
    {'positions': measured.guard_positions, 'values': measured.guard_values} as guarded
from (
    select
        told_runs.*, rules.rule_digest, rules.time_us as sealed_us, rules.evaluation_id as sealed_evaluation_id,
        rules.entry as sealed_entry, calibrated_rules.panel_entry
    from told_runs
    cross join rules
    left join calibrated_rules on calibrated_rules.rule_digest = rules.rule_digest
    where told_runs.purpose is null
) as runs
left join measured on measured.run_id = runs.run_id and measured.rule_digest = runs.rule_digest
