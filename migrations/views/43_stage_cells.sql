-- What each stage of a rule looks at: lever and control at num_seeds judged seeds from first_seed on, NULL where nothing is yet.
create view stage_cells as
with
    apart as (
        select
            rule, rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest,
            stage_position, stage, statistic, first_seed, num_seeds, stated_bar as bar, bar_unit, unnest(seen) as cell
        from lever_stages
    )
select
    * exclude (cell),
    cell.position as seed_position,
    cell.seed,
    cell.is_finished,
    cell.lever_value,
    cell.control_value
from apart
