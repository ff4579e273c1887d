"""What the ledger's tables hold, and the text of a row that the chain's digests are made of.

A row's text must never change, or heads that somebody noted would be lost: it has the columns of the revision that
first had the table's entries, in that order, and spells what later revisions moved as it was spelled then. Columns that
came later and can be computed from these (DERIVED) are no part of it; `verify` compares them on their own.
"""

COLUMNS: dict[str, str] = {
    "amendments": "rule_digest, amended_digest, reason, time_us, entry",
    "artifacts": "run_id, position, name, digest, num_bytes, time_us, entry",
    "attempts": "run_id, attempt, device, cohort_size, threads, pid, git_revision, time_us, entry",
    "bases": "control_digest, cache_id, evaluation_id, stacked, recipe_json, time_us, entry",
    "calibrations": "design_digest, design_json, time_us, entry",
    "caches": "cache_id, identity_json, num_train, num_val, val_drives_digest, time_us, entry",
    "encoders": "encoder_key, encoder_digest, file_name, train_drives, settings_json, time_us, entry",
    "environments": "run_id, attempt, key, value, entry",
    "events": "journal, position, run_id, what, detail, step, time_us, entry",
    "journals_read": "journal, up_to_offset, time_us, entry",
    "metrics": "run_id, metric, channel, slice, readout, step, value, time_us, entry",
    "notes": "about, subject, note, time_us, entry",
    "recorded_verdicts": (
        "rule_digest, control_digest, cache_id, evaluation_id, lever, recipe_digest, decision, effect, reason, "
        "time_us, entry"
    ),
    "rule_guardrails": "rule_digest, position, metric, channel, slice, readout, margin, entry, direction",
    "rule_seeds": "rule_digest, role, position, seed, entry",
    "rule_stages": "rule_digest, position, name, statistic, num_seeds, bar, first_seed, bar_unit, entry",
    "rule_terms": (
        "rule_digest, sigma, sigma_df, rho, screen_bar, screen_guard, screen_unit, design_digest, time_us, entry"
    ),
    "rules": (
        "rule_digest, name, metric, channel, slice, readout, rule_json, time_us, entry, direction, evaluation_id, "
        "evaluation_json, simulated_json"
    ),
    "run_settings": "run_id, key, value_json, entry",
    "runs": (
        "run_id, study, lever, seed, replicate, recipe_digest, control_digest, cache_id, evaluation_id, "
        "evaluation_json, changed_keys, hypothesis, time_us, entry, origin"
    ),
    "said_tags": "about, subject, taxonomy, value, time_us, entry",
    "screen_levers": "screen, lever, recipe_digest, position, time_us, entry",
    "screen_rows": "screen, row_name, position, seed, recipe_digest, levers, time_us, entry",
    "screen_weights": "screen, solution, lever, row_name, weight, time_us, entry",
    "screens": (
        "screen, rule_digest, control_digest, cache_id, evaluation_id, sigma, sigma_df, bar, guard, excluded_json, "
        "time_us, entry"
    ),
    "stacks": (
        "lever, recipe_digest, rule_digest, control_digest, cache_id, evaluation_id, changes_json, "
        "new_control_digest, replicate_seed, effect, time_us, entry"
    ),
    "tags": "run_id, taxonomy, value, entry",
    "tree_phases": "tree_digest, phase, what, why, time_us, entry",
    "trees": "tree_digest, tree_json, amended_digest, reason, time_us, entry",
    "wall_times": "run_id, position, phase, seconds, entry",
}
"""Table -> the columns of its rows' texts."""

SPELLED = {
    "slice": "case when drive = '' then slice when slice = 'overall' then 'drive:' || drive "
    "else slice || ':drive:' || drive end"
}
"""Where a column's value is spelled otherwise in the text; in the tables that have a drive."""

LATER = {
    "bases": ("thresholds_json",),
    "rule_stages": ("stack_above",),
    "wall_times": ("attempt",),
}
"""Columns that came later and are part of the text, after it, where they are not NULL."""

BASE_ID = "left(sha256({control} || ' ' || evaluation_id), 16)"
"""flowlab.core.digest.base_id in SQL."""

NUMBER_KEY = (
    "(md5_number_lower(metric) >> 48 << 48) + (md5_number_lower(concat("
    + ", ".join(f"length({name}), ':', {name}" for name in ("metric", "channel", "slice", "drive", "readout"))
    + ")) >> 16)"
)
"""64 bits for which number of a run a row is: rules find theirs by it, which is faster than by five texts.

The first 16 are the metric's, so that numbers of other metrics are passed over by their size alone.
"""

DERIVED: dict[str, dict[str, str]] = {
    "runs": {"base_id": BASE_ID.format(control="control_digest")},
    "bases": {"base_id": BASE_ID.format(control="control_digest")},
    "stacks": {
        "base_id": BASE_ID.format(control="control_digest"),
        "new_base_id": BASE_ID.format(control="new_control_digest"),
    },
    "recorded_verdicts": {"base_id": BASE_ID.format(control="control_digest")},
    "screens": {"base_id": BASE_ID.format(control="control_digest")},
    "metrics": {"number_key": NUMBER_KEY},
    "rules": {"number_key": NUMBER_KEY},
    "rule_guardrails": {"number_key": NUMBER_KEY},
}
"""Table -> the columns that follow from others, and how: computed when rows come in, and again by `verify`."""


def row_text(table: str) -> str:
    """The SQL expression for the text of a row of `table`."""
    has_drive = table in ("metrics", "rules", "rule_guardrails")
    packed = ", ".join(
        f"'{name}': " + (SPELLED[name] if has_drive and name in SPELLED else f'"{name}"')
        for name in COLUMNS[table].split(", ")
    )
    later = "".join(f" || coalesce(' {name} ' || {name}, '')" for name in LATER.get(table, ()))
    return f"'{table} ' || to_json({{{packed}}})::varchar{later}"
