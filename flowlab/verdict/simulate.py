"""What a rule does to levers whose truth is known: simulated campaigns, judged by the views that judge real ones."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from flowlab.core.progress import SILENT, Progress
from flowlab.ledger.scratch import fill, fill_screens, scratch_ledger
from flowlab.study.rule import PUBLISHED_SIGMA, Rule, Sigma
from flowlab.verdict.campaigns import LOUD, NULL, REAL, Screen, draw, screen_of
from flowlab.verdict.campaigns import Campaigns as Campaigns

LEVERS_PER_BLOCK = 100_000  # judged at once, so that memory stays bounded
WEIGHTS_PER_BLOCK = 1_500_000  # of screens, which have one for each lever and row of each campaign

COUNT = """
select
    split_part(lever, '-', 1) as kind,
    substr(base_id, 6)::bigint as campaign,
    count(*) as levers,
    count(*) filter (where decision = 'stack') as stacked,
    coalesce(sum(effect::decimal(38, 12)) filter (where decision = 'stack'), 0) as told,
    sum(last_seed) as runs
from decisions
group by kind, campaign
order by kind, campaign
"""
"""One question a block, since each asks for every decision: of each campaign's levers of each kind, as scratch.FILL
names bases.

Effects are added up as decimals: exact in whatever order threads bring them, so a seed gives the same answer always.
"""


@dataclass(frozen=True)
class ErrorRates:
    """What a rule did in simulated campaigns. None where nothing was there to count.

    Errors are Monte Carlo's: the standard errors over campaigns, whose levers share a panel.
    """

    campaigns: int
    null_stacked: float | None  # share of levers without effect that were stacked; the loud ones apart
    null_error: float | None
    loud_stacked: float | None
    power: float | None  # share of real levers that were stacked
    power_error: float | None
    false_stacks: float  # expected number per campaign
    any_false_stack: float  # share of campaigns with at least one
    false_discovery_rate: float | None  # false among all that were stacked
    reported_effect: float | None  # mean reported effect of stacked real levers
    overestimate: float | None  # by how much that exceeds the true one
    null_reported: float | None  # mean reported effect of stacked levers without one
    runs: float  # lever runs per campaign, those of a screen's rows among them
    screen_runs: int  # per campaign
    control_runs: int  # per campaign


@dataclass
class _Counts:
    """Of one kind of lever: numbers a campaign, and the sum of what was told of those stacked."""

    levers: list[NDArray[np.int64]] = field(default_factory=list)
    stacked: list[NDArray[np.int64]] = field(default_factory=list)
    told: float = 0.0
    runs: int = 0

    def share(self) -> tuple[float | None, float | None]:
        """The share that was stacked, with its standard error over campaigns."""
        if not self.levers:
            return None, None
        shares = self.per_campaign() / np.concatenate(self.levers)
        error = float(shares.std(ddof=1) / np.sqrt(len(shares))) if len(shares) > 1 else None
        return float(shares.mean()), error

    def per_campaign(self) -> NDArray[np.int64]:
        return np.concatenate([*self.stacked, np.zeros(0, dtype=np.int64)])

    def mean_told(self) -> float | None:
        stacked = int(self.per_campaign().sum())
        return self.told / stacked if stacked else None


def simulate(rule: Rule, asked: Campaigns, progress: Progress = SILENT) -> ErrorRates:
    """The error rates of `rule`, its guardrails and whom it judges left out: neither is simulated.

    A rule with bars in units of sigma that has not measured it yet does so in each campaign, on its own control seeds.
    Raises StudyError for levers that its screen cannot tell apart.
    """
    key = rule.primary.model_copy(update={"direction": "lower"})  # as the values that are simulated
    bare = rule.model_copy(update={"primary": key, "guardrails": (), "evaluation": None})
    if bare.is_in_sigma and bare.sigma is None:
        df = asked.sealed_df or len(bare.control_seeds) - 1
        bare = bare.measured(Sigma(value=asked.sigma or PUBLISHED_SIGMA, df=df))
        asked = replace(asked, sealed_df=df if asked.sigma else None)
    screen = screen_of(bare, asked)
    counts: dict[str, _Counts] = defaultdict(_Counts)
    filled = 0
    with (
        scratch_ledger(bare) as ledger,
        progress.task(f"simulate rule {rule.name}", asked.campaigns, "campaigns") as task,
    ):
        for block, num in _blocks(asked, screen):
            drawn = draw(bare, asked, screen, block, num)
            if screen is not None and num != filled:
                fill_screens(ledger, asked.names, screen.row_names, screen.seeds, screen.weights, num)
                filled = num
            fill(ledger, drawn.runs)
            _count(ledger.execute(COUNT).fetchnumpy(), drawn.scales, counts)
            task.advance(num)
    return _rates(rule, asked, screen, counts)


def _blocks(asked: Campaigns, screen: Screen | None) -> Iterator[tuple[int, int]]:
    """(block's number, how many campaigns are in it)."""
    size = LEVERS_PER_BLOCK // asked.levers
    if screen is not None:
        size = min(size, WEIGHTS_PER_BLOCK // screen.weights.size)
    size = max(1, size)
    for block, first in enumerate(range(0, asked.campaigns, size)):
        yield block, min(size, asked.campaigns - first)


def _count(found: dict[str, NDArray], scales: NDArray[np.float64], counts: dict[str, _Counts]) -> None:
    kinds = np.asarray(found["kind"], dtype=str)
    for kind in np.unique(kinds):
        of = {name: np.asarray(column)[kinds == kind] for name, column in found.items()}
        counts[kind].levers.append(of["levers"])
        counts[kind].stacked.append(of["stacked"])
        counts[kind].told += float((of["told"].astype(float) / scales[of["campaign"]]).sum())
        counts[kind].runs += int(of["runs"].sum())


def _rates(rule: Rule, asked: Campaigns, screen: Screen | None, counts: dict[str, _Counts]) -> ErrorRates:
    null_stacked, null_error = counts[NULL].share()
    power, power_error = counts[REAL].share()
    false = np.zeros(asked.campaigns, dtype=np.int64)
    for kind in (NULL, LOUD):
        if counts[kind].levers:
            false += counts[kind].per_campaign()
    stacked = int(false.sum()) + int(counts[REAL].per_campaign().sum())
    told = counts[REAL].mean_told()
    rows = 0 if screen is None else len(screen.row_names)
    return ErrorRates(
        campaigns=asked.campaigns,
        null_stacked=null_stacked,
        null_error=null_error,
        loud_stacked=counts[LOUD].share()[0],
        power=power,
        power_error=power_error,
        false_stacks=float(false.mean()),
        any_false_stack=float((false > 0).mean()),
        false_discovery_rate=int(false.sum()) / stacked if stacked else None,
        reported_effect=told,
        overestimate=None if told is None else told - asked.effect,
        null_reported=counts[NULL].mean_told(),
        runs=sum(of.runs for of in counts.values()) / asked.campaigns + rows,
        screen_runs=rows,
        control_runs=len(rule.control_seeds),
    )
