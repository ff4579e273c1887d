-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- All that a rule knows of a lever, in one row: lists with an entry for each judged seed, in registered order, with NULL where nothing is
-- yet: `lever_values`, `control_values`, `differences`, `guarded` (what the guardrails' metrics are there), and `seeds`, which puts all that
-- is told of a seed together, for those who want it; beside them the panel, and what lever_doubts puts into words.
-- Entries are looked up by position: list_sort takes three times, and an ordered aggregate twenty times as long. Two lists of one
-- aggregation have one order. All of a base's controls, and all of a lever's runs, are looked through once each: a step less is planned sooner.
create view lever_seeds as
with
    seats as (select rule_digest, seed, position, count(*) over (partition by rule_digest) as panel_size from rule_seeds where role = 'panel'),
    judged as (select rule_digest, seed, position from rule_seeds where role = 'judged'),
    asked as (
        select rule_digest, list_sort(list({'position': position, 'seed': seed})) as judged
        from judged
        group by rule_digest
    ),
    scored as materialized (
        select scores.*, judged.position as judged_position
        from scores
        left join judged on judged.rule_digest = scores.rule_digest and judged.seed = scores.seed
    ),
    levers as materialized (select * from judged_levers),
    lever_runs as (
        select
            rule_digest, base_id, lever, recipe_digest,
            list(judged_position) filter (is_evidence and judged_position is not null) as run_positions,
            list({'value': value, 'guarded': guarded}) filter (is_evidence and judged_position is not null) as runs,
            list_sort(
                list({'position': judged_position, 'seed': seed, 'step': step})
                filter (status = 'crashed' and replicate = 0 and judged_position is not null)
            ) as crashes,
            nullif(count(*) filter (is_imported), 0) as num_imported
        from scored
        where lever <> 'control'
        group by rule_digest, base_id, lever, recipe_digest
    ),
    controls as (
        select
            scored.*, seats.position as panel_position, seats.panel_size,
            seats.position is not null and scored.replicate = 0 as is_in_panel
        from scored
        left join seats on seats.rule_digest = scored.rule_digest and seats.seed = scored.seed
        where scored.is_control
    ),
    control_runs as (
        select
            rule_digest, base_id,
            list(judged_position) filter (is_evidence and judged_position is not null) as control_positions,
            list(value) filter (is_evidence and judged_position is not null) as controls,
            nullif(count(*) filter (is_imported), 0) as num_imported_controls,
            if(
                bool_or(is_in_panel),
                {
                    'mean': avg(value) filter (is_in_panel and is_evidence),
                    -- Of values whose squares are out of range DuckDB 1 would raise an error, and DuckDB 2 give NaN.
                    'sd': if(
                        max(abs(value)) filter (is_in_panel and is_evidence) < 1e70,
                        stddev_samp(value) filter (is_in_panel and is_evidence and abs(value) < 1e70),
                        'inf'::double
                    ),
                    'count': count(value) filter (is_in_panel and is_evidence),
                    'is_complete': count(value) filter (is_in_panel and is_evidence) = any_value(panel_size) filter (is_in_panel),
                    'crashed': list_sort(
                        list({'position': panel_position, 'seed': seed}) filter (is_in_panel and status = 'crashed')
                    )
                },
                null
            ) as panel
        from controls
        group by rule_digest, base_id
    ),
    guarded_panels as (
        select rule_digest, base_id, {'positions': list(position), 'values': list(panel_mean)} as guarded
        from (
            select rule_digest, base_id, position, avg(value) as panel_mean
            from (
                select rule_digest, base_id, panel_size, unnest(guarded.positions) as position, unnest(guarded."values") as value
                from controls
                where is_in_panel and is_evidence
            )
            group by rule_digest, base_id, position
            having count(*) = any_value(panel_size)
        )
        group by rule_digest, base_id
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
    -- Runs whose number was seen before the rule was sealed: older ones, and younger ones that ended, at their seed and in their
    -- evaluation, on exactly the number of an older one. Settings that change no number give a recipe another digest.
    older as (
        select rule_digest, run_id, base_id, lever, recipe_digest, judged_position, evaluation_id, seed, value, is_calibration
        from scored
        where is_older
    ),
    seen as (
        select
            rule_digest, run_id, lever, recipe_digest, judged_position,
            run_id as older_id, base_id as older_base_id, is_calibration
        from older
        union all
        select
            younger.rule_digest, younger.run_id, younger.lever, younger.recipe_digest, younger.judged_position,
            older.run_id, older.base_id, older.is_calibration
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
        select controls.rule_digest, controls.base_id, list(distinct controls.seed) as seen_seeds
        from controls
        join panel_origins on panel_origins.rule_digest = controls.rule_digest and panel_origins.seed = controls.seed
        join seen on seen.rule_digest = panel_origins.origin_digest and seen.run_id = controls.run_id
        where controls.is_in_panel and not seen.is_calibration
        group by controls.rule_digest, controls.base_id
    ),
    -- The lever was looked at before, by its name or its recipe, at a judged seed, whatever it was compared with. The controls that it is
    -- compared with may be seen by calibration: a placebo, which repeats them, is no older for that.
    seen_levers as (
        select
            rule_digest, base_id, lever, recipe_digest,
            count(distinct older_id) as num_older,
            bool_or(older_id <> run_id) as is_repeat
        from (
            select levers.*, seen.run_id, seen.older_id, seen.is_calibration, seen.older_base_id, seen.judged_position
            from levers
            join seen on seen.rule_digest = levers.rule_digest and seen.lever = levers.lever
            union all
            select levers.*, seen.run_id, seen.older_id, seen.is_calibration, seen.older_base_id, seen.judged_position
            from levers
            join seen on seen.rule_digest = levers.rule_digest and seen.recipe_digest = levers.recipe_digest
        )
        where judged_position is not null and not (is_calibration and older_base_id = base_id)
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
    ),
    placed as (
        select
            levers.*,
            asked.judged,
            [lever_runs.runs[list_position(lever_runs.run_positions, pair.position)] for pair in asked.judged] as runs,
            [control_runs.controls[list_position(control_runs.control_positions, pair.position)] for pair in asked.judged]
                as control_values,
            control_runs.panel,
            guarded_panels.guarded as guarded_panel,
            unlike_pairs.unlike,
            seen_panels.seen_seeds,
            lever_runs.crashes,
            lever_runs.num_imported,
            control_runs.num_imported_controls,
            seen_levers.num_older,
            seen_levers.is_repeat,
            screened.screened
        from levers
        join asked using (rule_digest)
        left join lever_runs using (rule_digest, base_id, lever, recipe_digest)
        left join control_runs using (rule_digest, base_id)
        left join guarded_panels using (rule_digest, base_id)
        left join unlike_pairs using (rule_digest, base_id, lever, recipe_digest)
        left join seen_panels using (rule_digest, base_id)
        left join seen_levers using (rule_digest, base_id, lever, recipe_digest)
        left join screened using (rule_digest, base_id, lever, recipe_digest)
    )
select
    * exclude (judged, runs, unlike),
    [run.value for run in runs] as lever_values,
    list_transform(control_values, lambda value, i: value - runs[i].value) as differences,
    [run.guarded for run in runs] as guarded,
    list_transform(judged, lambda pair, i: {
        'position': pair.position,
        'seed': pair.seed,
        'is_finished': runs[i] is not null,
        'lever_value': runs[i].value,
        'control_value': control_values[i],
        'unlike': unlike[pair.seed]
    }) as seeds
from placed
