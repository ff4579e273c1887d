-- grain: one row per rule_digest, role, seed
-- What each seed of a rule is for: 'panel', 'discovery', or 'fresh'. Fresh are the judged seeds of the last stage, if
-- earlier stages looked at earlier seeds only. What earlier stages selected by is not in them, but the last stage selects by
-- them too, so they flatter what it lets through, if less. A seed may be both panel and judged. Judged seeds that no
-- stage looks at have no role.
create view seed_roles as
with
    last_stages as (
        select
            stage.rule_digest,
            arg_max(stage.first_seed, stage.position) as first_seed,
            max(stage.first_seed + stage.num_seeds - 1) as last_seed,
            max(stage.first_seed + stage.num_seeds - 1) filter (where stage.position < newest.position) as earlier_seed
        from rule_stages as stage
        join (select rule_digest, max(position) as position from rule_stages group by rule_digest) as newest
            using (rule_digest)
        group by stage.rule_digest
    )
select
    rules.name as rule,
    rules.rule_digest,
    rule_seeds.seed,
    rule_seeds.position,
    case
        when rule_seeds.role = 'panel' then 'panel'
        when rule_seeds.position >= last_stages.first_seed and last_stages.first_seed > last_stages.earlier_seed
            then 'fresh'
        else 'discovery'
    end as role
from rules
join rule_seeds using (rule_digest)
join last_stages using (rule_digest)
where rule_seeds.role = 'panel' or rule_seeds.position <= last_stages.last_seed
