-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- All that a rule knows of a lever, in one row: `seeds` has an entry for each judged seed, in registered order, with NULL where nothing is
-- yet, `guarded` by position what the guardrails' metrics are there; beside it the panel, and what lever_doubts puts into words.
-- A list is put in order by list_sort, which takes a fifth of what an ordered aggregate does; its elements begin with their position.
create view lever_seeds as
with
    scored as materialized (select * from scores),
    levers as materialized (select * from judged_levers),
    judged as (select rule_digest, position, seed from rule_seeds where role = 'judged'),
    filled as (
        select
            levers.rule, levers.rule_digest, levers.base_id, levers.lever, levers.recipe_digest,
            list_sort(list(
                {
                    'position': judged.position,
                    'seed': judged.seed,
                    'is_finished': run.run_id is not null,
                    'lever_value': run.value,
                    'control_value': control.value,
                    'unlike': unlike_runs.unlike
                }
            )) as seeds,
            map_from_entries(list((judged.position, run.guarded))) as guarded
        from levers
        join judged on judged.rule_digest = levers.rule_digest
        left join scored as run
            on run.is_evidence
            and run.rule_digest = levers.rule_digest
            and run.base_id = levers.base_id
            and run.lever = levers.lever
            and run.recipe_digest = levers.recipe_digest
            and run.seed = judged.seed
        left join scored as control
            on control.is_evidence
            and control.is_control
            and control.rule_digest = levers.rule_digest
            and control.base_id = levers.base_id
            and control.seed = judged.seed
        left join unlike_runs on unlike_runs.run_id = run.run_id and unlike_runs.control_run_id = control.run_id
        group by all
    ),
    panel_runs as (
        select scored.*, panel_seeds.position, panel_seeds.panel_size, panel_seeds.is_taken_over
        from scored
        join panel_seeds on panel_seeds.rule_digest = scored.rule_digest and panel_seeds.seed = scored.seed
        where scored.is_control and scored.replicate = 0
    ),
    guarded_panels as (
        select rule_digest, base_id, map_from_entries(list((position, panel_mean))) as guarded
        from (
            select rule_digest, base_id, guard.key as position, avg(guard.value) as panel_mean
            from (select rule_digest, base_id, panel_size, unnest(map_entries(guarded)) as guard from panel_runs where is_evidence)
            group by rule_digest, base_id, guard.key
            having count(*) = any_value(panel_size)
        )
        group by rule_digest, base_id
    ),
    panels as (
        select
            rule_digest, base_id,
            {
                'mean': avg(value) filter (is_evidence),
                -- Of values whose squares are out of range DuckDB 1 would raise an error, and DuckDB 2 give NaN.
                'sd': if(
                    max(abs(value)) filter (is_evidence) < 1e70,
                    stddev_samp(value) filter (is_evidence and abs(value) < 1e70),
                    'inf'::double
                ),
                'count': count(value) filter (is_evidence),
                'is_complete': count(value) filter (is_evidence) = any_value(panel_size),
                'crashed': list_sort(list({'position': position, 'seed': seed}) filter (status = 'crashed'))
            } as panel
        from panel_runs
        group by rule_digest, base_id
    ),
    crashed as (
        select
            scored.rule_digest, scored.base_id, scored.lever, scored.recipe_digest,
            list_sort(list({'position': judged.position, 'seed': scored.seed, 'step': scored.step})) as crashes
        from scored
        join judged on judged.rule_digest = scored.rule_digest and judged.seed = scored.seed
        where scored.status = 'crashed' and scored.replicate = 0
        group by all
    ),
    imported as (
        select rule_digest, base_id, lever, recipe_digest, count(*) as num_imported
        from scored
        where is_imported
        group by all
    ),
    -- Runs whose number was seen before the rule was sealed: older ones, and younger ones that ended, at their seed and in their
    -- evaluation, on exactly the number of an older one. Settings that change no number give a recipe another digest.
    older as (select rule_digest, run_id, evaluation_id, seed, value from scored where is_older),
    seen as (
        select rule_digest, run_id, run_id as older_id from older
        union all
        select younger.rule_digest, younger.run_id, older.run_id
        from scored as younger
        join older
            on older.rule_digest = younger.rule_digest
            and older.evaluation_id = younger.evaluation_id
            and older.seed = younger.seed
            and older.value = younger.value
        where not younger.is_older
    ),
    seen_panels as (
        select panel_runs.rule_digest, panel_runs.base_id, list(distinct panel_runs.seed) as seen_seeds
        from panel_runs
        join seen on seen.rule_digest = panel_runs.rule_digest and seen.run_id = panel_runs.run_id
        where not panel_runs.is_taken_over
        group by panel_runs.rule_digest, panel_runs.base_id
    ),
    -- The lever was looked at before, by its name or its recipe, at a judged seed, whatever it was compared with.
    seen_runs as (
        select seen.rule_digest, seen.run_id, seen.older_id, scored.lever, scored.recipe_digest
        from seen
        join scored on scored.rule_digest = seen.rule_digest and scored.run_id = seen.run_id
        join judged on judged.rule_digest = seen.rule_digest and judged.seed = scored.seed
    ),
    seen_levers as (
        select
            rule_digest, base_id, lever, recipe_digest,
            count(distinct older_id) as num_older,
            bool_or(older_id <> run_id) as is_repeat
        from (
            select levers.*, seen.run_id, seen.older_id
            from levers
            join seen_runs as seen on seen.rule_digest = levers.rule_digest and seen.lever = levers.lever
            union all
            select levers.*, seen.run_id, seen.older_id
            from levers
            join seen_runs as seen on seen.rule_digest = levers.rule_digest and seen.recipe_digest = levers.recipe_digest
        )
        group by rule_digest, base_id, lever, recipe_digest
    ),
    -- What a rule that confirms levers of a screen knows of each: NULL where no screen under it had the lever.
    screened as (
        select
            effects.rule_digest, effects.base_id, effects.lever, effects.recipe_digest,
            {'effect': effects.effect, 'goes_on': effects.goes_on, 'reason': effects.reason} as screened
        from screen_effects as effects
        join rule_terms as terms on terms.rule_digest = effects.rule_digest and terms.screen_bar is not null
        where effects.is_first
    )
select
    filled.*,
    panels.panel,
    guarded_panels.guarded as guarded_panel,
    seen_panels.seen_seeds,
    crashed.crashes,
    imported.num_imported,
    seen_levers.num_older,
    seen_levers.is_repeat,
    screened.screened
from filled
left join panels using (rule_digest, base_id)
left join guarded_panels using (rule_digest, base_id)
left join seen_panels using (rule_digest, base_id)
left join crashed using (rule_digest, base_id, lever, recipe_digest)
left join imported using (rule_digest, base_id, lever, recipe_digest)
left join seen_levers using (rule_digest, base_id, lever, recipe_digest)
left join screened using (rule_digest, base_id, lever, recipe_digest)
