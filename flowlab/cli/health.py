"""Whether a lever's runs are sound, in a few lines below its verdict."""

from typing import Any

from flowlab.cli.screen import figure
from flowlab.study.study import Study


def read_health(study: Study, lever: str) -> list[dict[str, Any]]:
    """The rows of view lever_health of one lever, the newest rule's first, with what came of the lever."""
    from flowlab.ledger.connection import read

    question = """
        select lever_health.*, outcomes.outcome, outcomes.is_said
        from lever_health
        join rules using (rule_digest)
        left join outcomes using (lever, base_id, rule_digest, recipe_digest)
        where lever_health.lever = ?
        order by rules.entry desc, base_id, recipe_digest"""
    return read(study.ledger, question, [lever]).records()


def health_lines(study: Study, lever: str) -> list[str]:
    """What is to be known of a lever's runs beside its verdict: one line or a few for each base and rule."""
    rows = read_health(study, lever)
    lines: list[str] = []
    for row in rows:
        where = f" under rule {row['rule']} on base {row['base_id'][:6]}" if len(rows) > 1 else ""
        lines.append(f"health of {lever}{where}: {', '.join(_runs(row))}")
        lines += _of_best(row)
        if row["outcome"]:
            lines.append(f"outcome: {row['outcome']}{', as tagged' if row['is_said'] else ''}")
    return lines


def _runs(row: dict[str, Any]) -> list[str]:
    """How many runs, which crashed, and how far they lie apart beside the noise of seeds."""
    crashed = row["crashed_seeds"]
    num = row["num_runs"]
    parts = [f"{num} run{'s' * (num != 1)}"]
    if crashed:
        parts.append(f"crashed at seed {', '.join(map(str, crashed))}")
    sigma = "" if row["sigma"] is None else f"sigma {figure(row['sigma'])}"
    if row["sd"] is not None:
        parts.append(f"sd {figure(row['sd'])} over {row['num_judged']} seeds" + (f" beside {sigma}" if sigma else ""))
    elif sigma:
        parts.append(sigma)
    return parts


def _of_best(row: dict[str, Any]) -> list[str]:
    """Where its validation error was least, and a warning where that was long before the end."""
    if row["best_share"] is None:
        return []
    told = f"{row['metric']} on the validation frames was least after {row['best_share']:.0%} of the steps"
    if not row["past_best_seeds"]:
        return [told]
    seeds = ", ".join(map(str, row["past_best_seeds"]))
    return [f"{told}; at seed {seeds} it ended more than 5% above that: fewer steps, or more regularisation"]
