-- What each rule decides of each lever, with all that it rests on, in one row: for decisions and verdicts.
create view lever_decisions as
with
    guarded as (
        select
            rule, rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest,
            any_value({
                'stage_position': stage_position, 'stage': stage, 'first_seed': first_seed, 'num_seeds': num_seeds,
                'last_seed': last_seed, 'improvement': improvement, 'passes': passes, 'is_last': is_last
            }) as reached,
            any_value(reason) as reached_reason,
            any_value(cells) as cells,
            any_value(owed) as owed,
            any_value(panel_mean) as panel_mean,
            any_value(panel_sd) as panel_sd,
            any_value(panel_count) as panel_count,
            count(*) filter (where guard_passes = false) as num_failed,
            count(*) filter (where guard_position is not null and guard_passes is null) as num_open,
            list_sort(
                list((guard_position, guard_reason))
                filter (where guard_position is not null and guard_passes is distinct from true)
            ) as guard_reasons
        from lever_guards
        group by all
    ),
    crashes as (
        select
            judged.rule_digest, runs.control_digest, runs.cache_id, runs.evaluation_id, runs.lever, runs.recipe_digest,
            string_agg(
                format('crashed at seed {}, step {}', runs.seed, coalesce(run_states.step, 0)), ', ' order by judged.position
            ) as crash
        from runs
        join run_states using (run_id)
        join rule_seeds as judged on judged.role = 'judged' and judged.seed = runs.seed
        where run_states.status = 'crashed' and runs.replicate = 0
        group by all
    ),
    -- What each run ended with on the primary metric of each rule, and whether it is older than the rule. The order of entries tells,
    -- and no clock has to be right; runs that came in from elsewhere are told by their time.
    finals as materialized (
        select
            rules.rule_digest, runs.run_id, runs.seed, runs.evaluation_id, rule_values.value,
            runs.entry < rules.entry or runs.time_us < rules.time_us as is_older
        from rule_values
        join runs using (run_id)
        join rules using (rule_digest)
        where rule_values.role = 'primary'
    ),
    -- Runs whose numbers were seen before the rule was sealed: older ones, and those that repeat an older one to the bit. Settings that
    -- change no number give a recipe another digest.
    seen as (
        select rules.rule_digest, runs.run_id, runs.run_id as older_id
        from runs
        join rules on runs.entry < rules.entry or runs.time_us < rules.time_us
        union all
        select younger.rule_digest, younger.run_id, old.run_id
        from finals as younger
        join finals as old using (rule_digest, seed, evaluation_id, value)
        where old.is_older and not younger.is_older
    ),
    -- Looked at before the rule was sealed: the lever, by its name, its recipe or its numbers, at a judged seed, whatever it was
    -- compared with.
    older as (
        select seen.*, runs.lever, runs.recipe_digest
        from seen
        join runs using (run_id)
        join rule_seeds as judged
            on judged.rule_digest = seen.rule_digest and judged.role = 'judged' and judged.seed = runs.seed
    ),
    post_hoc as (
        select
            lever.rule_digest, lever.control_digest, lever.cache_id, lever.evaluation_id, lever.lever, lever.recipe_digest,
            format(
                'post-hoc: {} of its runs are older than the rule{}, which may not stack them',
                count(distinct older.older_id), if(bool_or(older.older_id <> older.run_id), ' or repeat one that is', '')
            ) as older
        from judged_levers as lever
        join older
            on older.rule_digest = lever.rule_digest
            and (older.lever = lever.lever or older.recipe_digest = lever.recipe_digest)
        group by all
    ),
    -- A panel that was chosen after its controls were seen. One that an amendment takes over whole was not.
    amended_panels as (
        select amendments.rule_digest, list(rule_seeds.seed) as seeds
        from amendments
        join rule_seeds on rule_seeds.rule_digest = amendments.amended_digest and rule_seeds.role = 'panel'
        group by amendments.rule_digest
    ),
    panels as (select rule_digest, list(seed) as seeds from rule_seeds where role = 'panel' group by rule_digest),
    chosen_panels as (
        select
            seen.rule_digest, runs.control_digest, runs.cache_id, runs.evaluation_id,
            format(
                'post-hoc panel: {} ran before the rule took them in, so it may not stack anything',
                string_agg(distinct format('control@{}', runs.seed), ', ' order by format('control@{}', runs.seed))
            ) as chosen
        from seen
        join runs using (run_id)
        join panels on panels.rule_digest = seen.rule_digest and list_contains(panels.seeds, runs.seed)
        left join amended_panels on amended_panels.rule_digest = seen.rule_digest
        where
            runs.lever = 'control' and runs.recipe_digest = runs.control_digest and runs.replicate = 0
            and not coalesce(
                list_contains(amended_panels.seeds, runs.seed) and list_has_all(panels.seeds, amended_panels.seeds), false
            )
        group by seen.rule_digest, runs.control_digest, runs.cache_id, runs.evaluation_id
    ),
    imported as (
        select
            control_digest, cache_id, evaluation_id, lever, recipe_digest,
            format('imported: {} of its runs were not trained under this rule, which may not stack them', count(*)) as origin
        from runs
        where origin is not null
        group by control_digest, cache_id, evaluation_id, lever, recipe_digest
    ),
    crashed_controls as (
        select
            panel.rule_digest, runs.control_digest, runs.cache_id, runs.evaluation_id,
            format(
                'the panel will never be complete, for {} crashed: amend the rule to other panel seeds',
                string_agg(format('control@{}', runs.seed), ', ' order by panel.position)
            ) as broken_panel
        from runs
        join run_states using (run_id)
        join rule_seeds as panel on panel.role = 'panel' and panel.seed = runs.seed
        where
            run_states.status = 'crashed' and runs.replicate = 0
            and runs.lever = 'control' and runs.recipe_digest = runs.control_digest
        group by panel.rule_digest, runs.control_digest, runs.cache_id, runs.evaluation_id
    )
select
    guarded.* exclude (reached, reached_reason, num_failed, num_open, guard_reasons),
    reached.*,
    case when reached.is_last then reached.improvement end as effect,
    case
        when not reached.passes then 'drop'
        when reached.passes is null and crashes.crash is not null then 'drop'
        when reached.passes is null then 'undecided'
        when num_failed > 0 then 'drop'
        when num_open > 0 then 'undecided'
        else 'stack'
    end as outcome,
    coalesce(post_hoc.older, chosen_panels.chosen, imported.origin) is not null as is_barred,
    if(outcome = 'stack' and is_barred, 'undecided', outcome) as decision,
    concat_ws(
        '; ',
        -- A run that crashed is not waited for.
        if(crashes.crash is null, reached_reason, nullif(regexp_replace(reached_reason, '(; )?[^;]*: waits for [^;]*$', ''), '')),
        case when reached.passes then array_to_string([told[2] for told in guard_reasons], '; ') end,
        crashes.crash,
        if(outcome = 'undecided', crashed_controls.broken_panel, null),
        post_hoc.older,
        chosen_panels.chosen,
        imported.origin
    ) as reason
from guarded
left join crashes using (rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest)
left join post_hoc using (rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest)
left join chosen_panels using (rule_digest, control_digest, cache_id, evaluation_id)
left join imported using (control_digest, cache_id, evaluation_id, lever, recipe_digest)
left join crashed_controls using (rule_digest, control_digest, cache_id, evaluation_id)
