"""The views against a computation by hand in whole numbers, on random campaigns.

Values are whole numbers of 1e-4, multiples of 10, so that differences hit bars and margins exactly and often.
"""

import random
import shutil
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowlab.core.digest import digest_json
from flowlab.ledger.connection import open_ledger
from flowlab.ledger.tables import NUMBER_KEY
from flowlab.verdict.judge import read_verdicts
from flowlab.verdict.seal import seal_rule
from tests.verdict.campaign import EVALUATION, FLAT, panel_rule, sealable

PANEL_SEEDS = (1001, 1002, 1003)
BAR_TRIAGE, BAR_STACK, MARGIN = 100, 150, 40


def draw_campaign(stream: random.Random) -> tuple[tuple, tuple]:
    """Controls and levers: (primary, guardrail) a seed, None for one run in twenty. Levers are about 0.015 better."""

    def cell(best: int, worst: int) -> tuple[int, int] | None:
        values = 10 * stream.randint(best, worst), 10 * stream.randint(99, 104)
        return None if stream.random() < 0.05 else values

    return tuple(cell(335, 350) for _ in range(3)), tuple(cell(315, 340) for _ in range(2))


def by_hand(controls: tuple, levers: tuple) -> tuple[str, str]:
    """(stage reached, decision) of the `panel` rule with one guardrail."""
    if controls[0] is None or levers[0] is None:
        return "triage", "undecided"
    if controls[0][0] - levers[0][0] <= BAR_TRIAGE:
        return "triage", "drop"
    if None in controls or None in levers:
        return "stack", "undecided"
    if 2 * sum(c[0] for c in controls) - 3 * sum(v[0] for v in levers) <= BAR_STACK * 6:
        return "stack", "drop"
    if 3 * sum(v[1] for v in levers) - 2 * sum(c[1] for c in controls) > MARGIN * 6:
        return "stack", "drop"
    return "stack", "stack"


COLUMNS = {
    "runs": "run_id, study, lever, seed, replicate, recipe_digest, control_digest, base_id, cache_id, evaluation_id, "
    "evaluation_json, changed_keys, hypothesis, time_us, entry",
    "events": "journal, position, run_id, what, detail, step, time_us, entry",
    "metrics": "run_id, metric, channel, slice, drive, readout, step, value, time_us, entry",
}
LATER_US = 2**62  # every run is younger than the rule


def _fill(ledger: Path, campaigns: list[tuple]) -> None:
    """Each campaign has a control recipe of its own. Straight into the tables: only the judging is asked for here."""
    runs, events, metrics = [], [], []
    identity = digest_json(EVALUATION)
    for number, (controls, levers) in enumerate(campaigns):
        base = f"base-{number}"
        for lever, cells in (("control", controls), ("lever", levers)):
            for seed, values in zip(PANEL_SEEDS, cells, strict=False):
                run_id = f"{number}-{lever}-{seed}"
                ending = "started" if values is None else "finished"
                recipe = base if lever == "control" else "lever"
                runs.append(
                    f"('{run_id}','s','{lever}',{seed},0,'{recipe}','{base}','{base}','k','{identity}','{{}}',[],'',"
                    f"{LATER_US},1)"
                )
                events.append(f"('{run_id}/journal.jsonl',9,'{run_id}','{ending}','',NULL,0,1)")
                for where, value in zip(("spike_frame", "flat_frame"), values or (1, 1), strict=True):
                    metrics.append(f"('{run_id}','l1','steering','{where}','','meank',-1,{value / 10000!r},0,1)")
    with open_ledger(ledger, read_only=False) as connection:
        for name, rows in (("runs", runs), ("events", events), ("metrics", metrics)):
            connection.execute(f"insert into {name} ({COLUMNS[name]}) values {','.join(rows)}")
        connection.execute(f"update metrics set number_key = {NUMBER_KEY}")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_verdicts_equal_the_computation_by_hand(ledger: Path, runs: Path, seed: int) -> None:
    stream = random.Random(seed)
    campaigns = [draw_campaign(stream) for _ in range(60)]
    seal_rule(sealable(panel_rule(panel_seeds=PANEL_SEEDS, guardrails=(FLAT,))), runs, ledger)
    trial = Path(shutil.copy(ledger, ledger.with_name("trial.duckdb")))
    _fill(trial, campaigns)
    judged = {row.base_id: (row.stage_reached, row.decision) for row in read_verdicts(trial)}
    assert judged == {f"base-{number}": by_hand(*campaign) for number, campaign in enumerate(campaigns)}
