"""Where the error of the mode comes from: what no draw reaches, what a mode's draws miss, what the wrong mode costs."""

from dataclasses import dataclass

from flowlab.core.vocabulary import CONTROL, OVERALL
from flowlab.report.campaign import ORDER, Campaign

PARTS = ("coverage_floor", "within_mode_residual", "selection_regret")
"""In the order of a bar; in sum they are l1 of `mode`."""
MOST_BARS = 40


@dataclass(frozen=True)
class Bar:
    """One lever: the mean of each part over its runs, and where the parts end, in percent of the widest bar."""

    name: str
    decision: str
    num_runs: int
    parts: list[float]
    total: float
    places: list[tuple[float, float]]  # from and width


@dataclass(frozen=True)
class Residuals:
    """The bars of one slice; `left_out` levers are not drawn."""

    slice: str
    bars: list[Bar]
    left_out: int


def read_residuals(campaign: Campaign) -> Residuals | None:
    """Bars on the primary's slice, or over all frames where that has no parts; None where no run has them."""
    for where in dict.fromkeys((campaign.primary.slice, OVERALL)):
        rows = campaign.ask(
            """
            select run_id, lever, metric, value from final_metrics
            where metric in ('coverage_floor', 'within_mode_residual', 'selection_regret') and slice = ?
                and drive = ''""",
            [where],
        )
        found: dict[str, dict[str, list[float]]] = {}
        for row in rows:
            if row["run_id"] not in campaign.screen_of:
                found.setdefault(row["lever"], {}).setdefault(row["metric"], []).append(row["value"])
        bars = _bars(campaign, {lever: parts for lever, parts in found.items() if len(parts) == len(PARTS)})
        if bars:
            return Residuals(where, bars[:MOST_BARS], max(len(bars) - MOST_BARS, 0))
    return None


def _bars(campaign: Campaign, found: dict[str, dict[str, list[float]]]) -> list[Bar]:
    means = {lever: [sum(parts[name]) / len(parts[name]) for name in PARTS] for lever, parts in found.items()}
    widest = max((sum(max(part, 0.0) for part in parts) for parts in means.values()), default=0.0) or 1.0
    bars = []
    for lever, parts in means.items():
        verdict = campaign.decision_of(lever)
        decision = "control" if lever == CONTROL else verdict.decision if verdict else ""
        at, places = 0.0, []
        for part in parts:
            width = 100 * max(part, 0.0) / widest
            places.append((round(at, 2), round(width, 2)))
            at += width
        bars.append(Bar(lever, decision, len(found[lever][PARTS[0]]), parts, sum(parts), places))
    return sorted(bars, key=lambda bar: (bar.name != CONTROL, ORDER.get(bar.decision, 4), bar.total))
