-- grain: one row per rule_digest
-- Rules whose seeds, statistics and guardrails were registered before their panel was seen: panel_entry is where. That is the newest
-- calibration before the seal, of this very design: who looks at the panels of several designs and takes the best has chosen it.
create view calibrated_rules as
select rule_digest, panel_entry
from (
    select
        rules.rule_digest,
        arg_max(calibrations.design_digest, calibrations.entry) = any_value(terms.design_digest) as is_of_design,
        max(calibrations.entry) as panel_entry
    from rules
    join rule_terms as terms on terms.rule_digest = rules.rule_digest and terms.design_digest is not null
    join calibrations on calibrations.entry < rules.entry
    group by rules.rule_digest
)
where is_of_design
