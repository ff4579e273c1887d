"""The views against a computation by hand in whole numbers, on random campaigns.

Values are whole numbers of 1e-4, multiples of 10, so that differences hit bars and margins exactly and often.
"""

import shutil
from pathlib import Path

from campaign import FLAT, panel_rule
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowlab.ledger.connection import open_ledger
from flowlab.verdict.judge import read_verdicts
from flowlab.verdict.seal import seal_rule

PANEL_SEEDS = (1001, 1002, 1003)
BAR_TRIAGE, BAR_STACK, MARGIN = 100, 150, 40
TEN_TIMES = (10).__mul__

cell = st.one_of(st.none(), *[st.tuples(st.integers(330, 360).map(TEN_TIMES), st.integers(99, 106).map(TEN_TIMES))] * 5)
campaign = st.tuples(st.tuples(cell, cell, cell), st.tuples(cell, cell))


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


def _fill(ledger: Path, campaigns: list[tuple]) -> None:
    """Each campaign has a control recipe of its own. Straight into the tables: only the judging is asked for here."""
    runs, events, metrics = [], [], []
    for number, (controls, levers) in enumerate(campaigns):
        base = f"base-{number}"
        for lever, cells in (("control", controls), ("lever", levers)):
            for seed, values in zip(PANEL_SEEDS, cells, strict=False):
                run_id = f"{number}-{lever}-{seed}"
                ending = "crashed" if values is None else "finished"
                recipe = base if lever == "control" else "lever"
                runs.append(f"('{run_id}','s','{lever}',{seed},0,'{recipe}','{base}','k','e','{{}}',[],'',0)")
                events.append(f"('{run_id}/journal.jsonl',9,'{run_id}','{ending}','',NULL,0)")
                for where, value in zip(("spike_frame", "flat_frame"), values or (1, 1), strict=True):
                    metrics.append(f"('{run_id}','l1','steering','{where}','meank',-1,{value / 10000!r},0)")
    with open_ledger(ledger, read_only=False) as connection:
        for name, rows in (("runs", runs), ("events", events), ("metrics", metrics)):
            connection.execute(f"insert into {name} values {','.join(rows)}")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(campaigns=st.lists(campaign, min_size=20, max_size=40))
def test_verdicts_equal_the_computation_by_hand(ledger: Path, runs: Path, campaigns: list[tuple]) -> None:
    seal_rule(panel_rule(panel_seeds=PANEL_SEEDS, guardrails=(FLAT,)), runs, ledger)
    trial = Path(shutil.copy(ledger, ledger.with_name("trial.duckdb")))
    _fill(trial, campaigns)
    judged = {row.control_digest: (row.stage_reached, row.decision) for row in read_verdicts(trial)}
    assert judged == {f"base-{number}": by_hand(*campaign) for number, campaign in enumerate(campaigns)}
