-- grain: one row per base_id, lever, recipe_digest, seed
-- The runs that rules look at: finished, replicate 0; were one run twice under two ids, the one that came in first.
-- A control is a run of the control recipe itself under the name 'control'; a placebo has that recipe and another name.
create view evidence as
select run_id, base_id, lever, recipe_digest, seed, is_control, is_placebo
from told_runs
where is_evidence
