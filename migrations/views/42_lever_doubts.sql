-- grain: one row per rule_digest, base_id, lever, recipe_digest
-- What speaks against a lever's numbers under a rule, in words, each NULL where it does not: for lever_decisions. A lever that is post-hoc
-- (its runs were seen before the rule was sealed), or imported, or measured against a panel that was chosen after its controls were
-- seen, may be shown and not stacked. Unlike pairs were trained in two environments: they are marked, and count.
create view lever_doubts as
select
    rule, rule_digest, base_id, lever, recipe_digest, seeds, lever_values, control_values, differences, guarded, panel, guarded_panel, screened,
    {
        'crash': array_to_string(
            [format('crashed at seed {}, step {}', crash.seed, coalesce(crash.step, 0)) for crash in crashes], ', '
        ),
        'broken_panel': format(
            'the panel will never be complete, for {} crashed: nothing more is owed, amend the rule to other panel seeds',
            array_to_string([format('control@{}', crashed.seed) for crashed in panel.crashed], ', ')
        ),
        'post_hoc': format(
            'post-hoc: {} of its runs are older than the rule{}, which may not stack them',
            num_older,
            if(is_repeat, ' or repeat one that is', '')
        ),
        'chosen_panel': format(
            'post-hoc panel: {} ran before the rule took them in, so it may not stack anything',
            array_to_string(list_sort([format('control@{}', seed) for seed in seen_seeds]), ', ')
        ),
        'imported': coalesce(
            format('imported: {} of its runs were not trained under this rule, which may not stack them', num_imported),
            format(
                'imported: {} of its controls were not trained under this rule, which may not stack against them',
                num_imported_controls
            )
        ),
        'unlike': format(
            'unlike pairs, whose bits differ for that alone: {}',
            nullif(array_to_string([format('{} ({})', pair.seed, pair.unlike) for pair in seeds if pair.unlike is not null], ', '), '')
        )
    } as doubts
from lever_seeds
