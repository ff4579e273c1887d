-- grain: one row per rule_digest, base_id, lever, recipe_digest, stage_position, seed_position
-- What each stage of a rule looks at: lever and control at num_seeds judged seeds from first_seed on, NULL where nothing is yet.
create view stage_seeds as
with
    by_stage as (select rule, rule_digest, base_id, lever, recipe_digest, seeds, unnest(stages) as of from lever_stages),
    by_seed as (select *, unnest(seeds[of.first_seed : of.last_seed]) as pair from by_stage)
select
    rule, rule_digest, base_id, lever, recipe_digest,
    of.stage_position, of.stage, of.statistic, of.first_seed, of.num_seeds, of.stated_bar as bar, of.bar_unit,
    pair.position as seed_position,
    pair.seed,
    pair.is_finished,
    pair.lever_value,
    pair.control_value
from by_seed
