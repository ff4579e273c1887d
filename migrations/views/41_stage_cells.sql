-- What each stage of a rule looks at: lever and control at num_seeds judged seeds from first_seed on, NULL where nothing is yet.
create view stage_cells as
select
    lever.*,
    stage.position as stage_position,
    stage.name as stage,
    stage.statistic,
    stage.first_seed,
    stage.num_seeds,
    stage.bar,
    stage.bar_unit,
    judged.position as seed_position,
    judged.seed,
    run.run_id is not null as is_finished,
    value.value as lever_value,
    control_value.value as control_value
from judged_levers as lever
join rule_stages as stage using (rule_digest)
join rule_seeds as judged
    on judged.rule_digest = lever.rule_digest and judged.role = 'judged'
    and judged.position between stage.first_seed and stage.first_seed + stage.num_seeds - 1
left join evidence as run
    on run.lever = lever.lever
    and run.recipe_digest = lever.recipe_digest
    and run.control_digest = lever.control_digest
    and run.cache_id = lever.cache_id
    and run.evaluation_id = lever.evaluation_id
    and run.seed = judged.seed
left join judged_values as value
    on value.rule_digest = lever.rule_digest and value.role = 'primary' and value.run_id = run.run_id
left join judged_values as control_value
    on control_value.rule_digest = lever.rule_digest
    and control_value.role = 'primary'
    and control_value.is_control
    and control_value.control_digest = lever.control_digest
    and control_value.cache_id = lever.cache_id
    and control_value.evaluation_id = lever.evaluation_id
    and control_value.seed = judged.seed
