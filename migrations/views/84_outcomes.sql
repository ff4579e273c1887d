-- grain: one row per lever
-- What came of each lever that has a run, in the words of the taxonomy: as somebody has tagged it last, else by its newest verdict. control: the
-- control. baseline: in the base. superseded: it was in a base that was left, or undecided on one. crashed-early: dropped since a judged run
-- crashed. negative: dropped, and worse than the panel by more than twice what other seeds would change that by. null: dropped, and no worse
-- than that. Nothing yet is NULL: it is undecided, or may be stacked. Rows of a screen, and runs with a purpose of their own, are no levers.
create view outcomes as
with
    ran as (
        select runs.base_id, runs.lever, runs.recipe_digest, max(runs.entry) as last_entry
        from told_runs as runs
        anti join screen_rows as rows on rows.row_name = runs.lever and rows.recipe_digest = runs.recipe_digest
        where runs.purpose is null
        group by all
    ),
    present as (select base_id, stacked from bases qualify row_number() over (order by entry desc) = 1),
    said as (select subject as lever, arg_max(value, entry) as outcome from said_tags where about = 'lever' and taxonomy = 'outcome' group by subject),
    lay as (
        select run.rule_digest, run.base_id, run.lever, run.recipe_digest, avg(run.value) as mean, count(*) as num_seeds
        from judged_values as run
        join rule_seeds as judged on judged.rule_digest = run.rule_digest and judged.role = 'judged' and judged.seed = run.seed
        where run.role = 'primary'
        group by all
    ),
    worth as (
        select
            lay.rule_digest, lay.base_id, lay.lever, lay.recipe_digest,
            if(rules.direction = 'higher', -1, 1) * (panel_stats.panel_mean - lay.mean) as effect,
            sigma.sigma * sqrt(1 / lay.num_seeds + 1 / panel_stats.panel_count) as noise
        from lay
        join rules on rules.rule_digest = lay.rule_digest
        join panel_stats
            on panel_stats.is_complete
            and panel_stats.role = 'primary'
            and panel_stats.rule_digest = lay.rule_digest
            and panel_stats.base_id = lay.base_id
        left join pooled_sigma as sigma
            on sigma.role = 'primary' and sigma.rule_digest = lay.rule_digest and sigma.base_id = lay.base_id
    ),
    -- The newest rule has the first word.
    judged as (
        select
            ran.lever, ran.base_id, decisions.rule_digest, decisions.recipe_digest, decisions.decision, decisions.passes,
            worth.effect, worth.noise, present.base_id is not null as is_present
        from ran
        left join decisions
            on decisions.base_id = ran.base_id and decisions.lever = ran.lever and decisions.recipe_digest = ran.recipe_digest
        left join worth
            on worth.rule_digest = decisions.rule_digest
            and worth.base_id = decisions.base_id
            and worth.lever = decisions.lever
            and worth.recipe_digest = decisions.recipe_digest
        left join rules on rules.rule_digest = decisions.rule_digest
        left join present on present.base_id = ran.base_id
        qualify row_number() over (partition by ran.lever order by ran.last_entry desc, rules.entry desc nulls last) = 1
    ),
    told as (
        select
            judged.*,
            coalesce(list_contains(present.stacked, judged.lever), false) as is_in_base,
            exists (select 1 from stacks where stacks.lever = judged.lever) as was_stacked
        from judged
        left join present on true
    )
select
    told.lever,
    coalesce(
        said.outcome,
        case
            when told.lever = 'control' then 'control'
            when is_in_base then 'baseline'
            when was_stacked then 'superseded'
            when decision = 'drop' and passes is null then 'crashed-early'
            when decision = 'drop' and effect < -2 * noise then 'negative'
            when decision = 'drop' then 'null'
            when decision = 'undecided' and not is_present then 'superseded'
        end
    ) as outcome,
    said.outcome is not null as is_said,
    told.decision,
    told.effect,
    told.noise,
    told.rule_digest,
    told.base_id,
    told.recipe_digest
from told
left join said on said.lever = told.lever
