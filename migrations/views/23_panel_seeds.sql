-- grain: one row per rule_digest, seed
-- The seeds of each rule's panel. One is taken over if an amendment took over the whole panel that it was in: it was chosen before its
-- control was seen, even where the rule itself is younger.
create view panel_seeds as
with
    panels as (
        select rule_digest, list(seed) as seeds
        from rule_seeds
        where role = 'panel'
        group by rule_digest
    ),
    amended_panels as (
        select amendments.rule_digest, flatten(list(panels.seeds)) as seeds
        from amendments
        join panels on panels.rule_digest = amendments.amended_digest
        group by amendments.rule_digest
    )
select
    rule_seeds.rule_digest,
    rule_seeds.seed,
    rule_seeds.position,
    len(panels.seeds) as panel_size,
    coalesce(
        list_contains(amended_panels.seeds, rule_seeds.seed) and list_has_all(panels.seeds, amended_panels.seeds), false
    ) as is_taken_over
from rule_seeds
join panels on panels.rule_digest = rule_seeds.rule_digest
left join amended_panels on amended_panels.rule_digest = rule_seeds.rule_digest
where rule_seeds.role = 'panel'
