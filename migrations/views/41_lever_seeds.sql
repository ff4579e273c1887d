-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- All that a rule knows of a lever, in one row: lists with an entry for each judged seed, in registered order, with NULL where nothing is
-- yet: `lever_values`, `control_values`, `guarded` (by position what the guardrails' metrics are there), and `seeds`, which puts all that
-- is told of a seed together, for those who want it; beside them the panel, and what lever_doubts puts into words.
-- Entries are looked up by position: list_sort takes three times, and an ordered aggregate twenty times as long.
create view lever_seeds as
with
    scored as materialized (select * from scores),
    levers as materialized (select * from judged_levers),
    judged as (select rule_digest, position, seed from rule_seeds where role = 'judged'),
    asked as (
        select rule_digest, list_sort(list({'position': position, 'seed': seed})) as judged
        from judged
        group by rule_digest
    ),
    lever_runs as (
        select
            run.rule_digest, run.base_id, run.lever, run.recipe_digest,
            list({'position': judged.position, 'value': run.value, 'guarded': run.guarded}) as runs
        from scored as run
        join judged on judged.rule_digest = run.rule_digest and judged.seed = run.seed
        where run.is_evidence and run.lever <> 'control'
        group by run.rule_digest, run.base_id, run.lever, run.recipe_digest
    ),
    control_runs as (
        select control.rule_digest, control.base_id, list({'position': judged.position, 'value': control.value}) as controls
        from scored as control
        join judged on judged.rule_digest = control.rule_digest and judged.seed = control.seed
        where control.is_evidence and control.is_control
        group by control.rule_digest, control.base_id
    ),
    unlike_pairs as (
        select
            run.rule_digest, run.base_id, run.lever, run.recipe_digest,
            map_from_entries(list((run.seed, unlike_runs.unlike))) as unlike
        from unlike_runs
        join scored as run on run.run_id = unlike_runs.run_id and run.is_evidence
        join scored as control
            on control.run_id = unlike_runs.control_run_id
            and control.rule_digest = run.rule_digest
            and control.base_id = run.base_id
            and control.seed = run.seed
            and control.is_evidence
            and control.is_control
        group by run.rule_digest, run.base_id, run.lever, run.recipe_digest
    ),
    placed as (
        select
            levers.*, asked.judged, lever_runs.runs, control_runs.controls, unlike_pairs.unlike,
            [run.position for run in lever_runs.runs] as run_positions,
            [control.position for control in control_runs.controls] as control_positions
        from levers
        join asked using (rule_digest)
        left join lever_runs using (rule_digest, base_id, lever, recipe_digest)
        left join control_runs using (rule_digest, base_id)
        left join unlike_pairs using (rule_digest, base_id, lever, recipe_digest)
    ),
    found as (
        select
            *,
            [list_position(run_positions, pair.position) for pair in judged] as run_places,
            [list_position(control_positions, pair.position) for pair in judged] as control_places
        from placed
    ),
    filled as (
        select
            rule, rule_digest, base_id, lever, recipe_digest,
            [runs[place].value for place in run_places] as lever_values,
            [controls[place].value for place in control_places] as control_values,
            [runs[place].guarded for place in run_places] as guarded,
            list_transform(judged, lambda pair, i: {
                'position': pair.position,
                'seed': pair.seed,
                'is_finished': run_places[i] is not null,
                'lever_value': runs[run_places[i]].value,
                'control_value': controls[control_places[i]].value,
                'unlike': unlike[pair.seed]
            }) as seeds
        from found
    ),
    panel_runs as (
        select scored.*, panel_seeds.position, panel_seeds.panel_size
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
    imported_controls as (
        select rule_digest, base_id, count(*) as num_imported_controls
        from scored
        where is_imported and is_control
        group by all
    ),
    -- Runs whose number was seen before the rule was sealed: older ones, and younger ones that ended, at their seed and in their
    -- evaluation, on exactly the number of an older one. Settings that change no number give a recipe another digest.
    older as (
        select rule_digest, run_id, base_id, evaluation_id, seed, value, is_calibration from scored where is_older
    ),
    seen as (
        select rule_digest, run_id, run_id as older_id, base_id as older_base_id, is_calibration from older
        union all
        select younger.rule_digest, younger.run_id, older.run_id, older.base_id, older.is_calibration
        from scored as younger
        join older
            on older.rule_digest = younger.rule_digest
            and older.evaluation_id = younger.evaluation_id
            and older.seed = younger.seed
            and older.value = younger.value
        where not younger.is_older
    ),
    -- Whoever chose the panel must not have seen it, unless by its calibration, whatever rule it has been handed to since.
    seen_panels as (
        select panel_runs.rule_digest, panel_runs.base_id, list(distinct panel_runs.seed) as seen_seeds
        from panel_runs
        join panel_origins on panel_origins.rule_digest = panel_runs.rule_digest and panel_origins.seed = panel_runs.seed
        join seen on seen.rule_digest = panel_origins.origin_digest and seen.run_id = panel_runs.run_id
        where not seen.is_calibration
        group by panel_runs.rule_digest, panel_runs.base_id
    ),
    -- The lever was looked at before, by its name or its recipe, at a judged seed, whatever it was compared with. The controls that it is
    -- compared with may be seen by calibration: a placebo, which repeats them, is no older for that.
    seen_runs as (
        select seen.*, scored.lever, scored.recipe_digest
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
            select levers.*, seen.run_id, seen.older_id, seen.is_calibration and seen.older_base_id = levers.base_id as may_be_seen
            from levers
            join seen_runs as seen on seen.rule_digest = levers.rule_digest and seen.lever = levers.lever
            union all
            select levers.*, seen.run_id, seen.older_id, seen.is_calibration and seen.older_base_id = levers.base_id as may_be_seen
            from levers
            join seen_runs as seen on seen.rule_digest = levers.rule_digest and seen.recipe_digest = levers.recipe_digest
        )
        where not may_be_seen
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
    imported_controls.num_imported_controls,
    seen_levers.num_older,
    seen_levers.is_repeat,
    screened.screened
from filled
left join panels using (rule_digest, base_id)
left join guarded_panels using (rule_digest, base_id)
left join seen_panels using (rule_digest, base_id)
left join crashed using (rule_digest, base_id, lever, recipe_digest)
left join imported using (rule_digest, base_id, lever, recipe_digest)
left join imported_controls using (rule_digest, base_id)
left join seen_levers using (rule_digest, base_id, lever, recipe_digest)
left join screened using (rule_digest, base_id, lever, recipe_digest)
