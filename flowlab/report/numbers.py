"""The metric table: what every finished run ended with, as the page's own JSON, and which way each metric is better."""

from typing import Any

from flowlab.core.vocabulary import CONTROL, METRICS, RANKER_METRICS, is_bound
from flowlab.ledger.connection import read
from flowlab.report.campaign import Campaign

LOWER = (
    *(name for name, metric in METRICS.items() if metric.better == "lower"),
    *("flow_mse", "law_flow_mse", "chunk_mse", "lag_l1"),
    *("selection_regret", "within_mode_residual", "coverage_floor", "conflict_fraction", RANKER_METRICS[1]),
)
HIGHER = (
    *(name for name, metric in METRICS.items() if metric.better == "higher"),
    *("skill", "hit@0.05", "hit@0.1", "hit@0.2", RANKER_METRICS[0], RANKER_METRICS[2]),
)
"""Which way a metric is better (docs/words.md); one in neither says nothing of the policy."""

MOST_RUNS = 200
"""Of more runs the newest are in the table."""


def read_numbers(campaign: Campaign) -> dict[str, Any]:
    """Keys (metric, channel, slice, readout), and for each run, and each baseline, a value or null at each key.

    Numbers of single drives are left out: they would be most of the page.
    """
    shown = [run for run in campaign.runs if run["status"] == "finished"][-MOST_RUNS:]
    wanted = {run["run_id"] for run in shown}
    question = "select run_id, metric, channel, slice, readout, value from final_metrics where drive = '' order by all"
    keys: dict[tuple[str, ...], int] = {}
    found: dict[str, dict[int, float]] = {}
    for run_id, *key, value in read(campaign.ledger, question).rows:
        if run_id in wanted:
            found.setdefault(run_id, {})[keys.setdefault(tuple(key), len(keys))] = value
    base = campaign.present_base
    bare: dict[str, dict[int, float]] = {}
    for row in campaign.ask("select * from baselines where base_id = ? and drive = ''", [base]):
        place = (row["metric"], row["channel"], row["slice"], row["readout"])
        bare.setdefault(row["readout"], {})[keys.setdefault(place, len(keys))] = row["value"]
    num = len(keys)
    primary = campaign.primary
    return {
        "keys": [list(key) for key in keys],
        "better": {name: way for names, way in ((LOWER, "lower"), (HIGHER, "higher")) for name in names},
        "bounds": sorted({key[3] for key in keys if is_bound(key[3])}),
        "primary": [primary.metric, primary.channel, primary.slice, primary.readout],
        "runs": [_run(campaign, run, [found.get(run["run_id"], {}).get(at) for at in range(num)]) for run in shown],
        "baselines": [{"name": name, "values": [own.get(at) for at in range(num)]} for name, own in bare.items()],
        "left_out": sum(run["status"] == "finished" for run in campaign.runs) - len(shown),
    }


def _run(campaign: Campaign, run: dict[str, Any], values: list[float | None]) -> dict[str, Any]:
    verdict = campaign.decision_of(run["lever"])
    screen = campaign.screen_of.get(run["run_id"])
    what = "control" if run["lever"] == CONTROL else verdict.decision if verdict else "screen" if screen else ""
    return {"id": run["run_id"], "lever": run["lever"], "seed": run["seed"], "what": what, "values": values}
