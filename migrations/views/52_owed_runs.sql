-- grain: one row per rule_digest, base_id, lever, recipe_digest, seed
-- What each rule wants run next, on the newest base: controls that its panel lacks, the seeds of the stage that a lever has reached
-- and not failed, and one run of each new base (replicate). status is that of a run of this name and seed that is there and not
-- finished, NULL if there is none.
create view owed_runs as
with
    wanted as (
        select rule, rule_digest, base_id, 'control' as lever, recipe_digest, seed, seed_position, 'panel' as why
        from owed_controls
        union all
        select
            decided.rule, decided.rule_digest, decided.base_id, decided.lever, decided.recipe_digest,
            decided.pair.seed, decided.pair.position, 'stage ' || decided.stage
        from (
            select *, unnest(owed) as pair
            from lever_decisions
            where outcome = 'undecided' and not is_barred
        ) as decided
        semi join wanted_bases using (rule_digest, base_id)
        union all
        select
            bases.rule, bases.rule_digest, bases.base_id, 'control', bases.control_digest, stacks.replicate_seed, 0, 'replicate'
        from stacks
        join wanted_bases as bases
            on bases.rule_digest = stacks.rule_digest
            and bases.base_id = stacks.new_base_id
        anti join evidence
            on evidence.is_control
            and evidence.base_id = bases.base_id
            and evidence.seed = stacks.replicate_seed
    ),
    unfinished as (
        select runs.base_id, runs.lever, runs.recipe_digest, runs.seed, run_states.status
        from runs
        left join run_states on run_states.run_id = runs.run_id
        anti join tags on tags.run_id = runs.run_id and tags.taxonomy = 'purpose'
        where runs.replicate = 0
        qualify row_number() over (
            partition by runs.base_id, runs.lever, runs.recipe_digest, runs.seed
            order by runs.entry desc, runs.run_id
        ) = 1
    )
select
    wanted.rule, wanted.rule_digest, wanted.base_id, wanted.lever, wanted.recipe_digest, wanted.seed, wanted.seed_position,
    wanted.why, unfinished.status
from wanted
left join unfinished using (base_id, lever, recipe_digest, seed)
where unfinished.status is distinct from 'crashed'
qualify row_number() over (
    partition by wanted.rule_digest, wanted.base_id, wanted.lever, wanted.recipe_digest, wanted.seed
    order by wanted.why = 'replicate' desc
) = 1
