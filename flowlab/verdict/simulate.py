"""What a rule does to levers whose truth is known: simulated campaigns, judged by the views that judge real ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flowlab.core.progress import SILENT, Progress
from flowlab.core.seeds import numpy_stream
from flowlab.ledger.scratch import fill, scratch_ledger
from flowlab.study.rule import Rule

if TYPE_CHECKING:
    import pyarrow

LEVERS_PER_BLOCK = 100_000  # judged at once, so that memory stays bounded
CONTROL_MEAN = 0.35  # any value will do: rules look at differences

COUNT = """
select
    starts_with(lever, 'real') as is_real,
    count(*) as num_levers,
    count(*) filter (where decision = 'stack') as num_stacked,
    coalesce(sum(effect::decimal(38, 12)) filter (where decision = 'stack'), 0) as stacked_effect,
    sum(last_seed) as num_runs,
    count(distinct base_id) filter (where decision = 'stack') as num_campaigns
from decisions
group by is_real
"""
"""One question a block, since each asks for every decision; num_campaigns are those in which anything was stacked.

Effects are added up as decimals: exact in whatever order threads bring them, so a seed gives the same answer always.
"""


@dataclass(frozen=True)
class Campaigns:
    """What is simulated. Values are errors, lower is better, in the primary metric's units.

    A run's value is the control's mean, less the effect if its lever is real, plus sigma times a standard normal of
    which the share rho is common to all runs at one seed. With `spread`, each lever has its own sigma: sigma times
    exp(spread times a standard normal).
    """

    levers: int
    real: int
    effect: float
    sigma: float
    rho: float
    spread: float
    campaigns: int
    seed: int


@dataclass(frozen=True)
class ErrorRates:
    """What a rule did in simulated campaigns. None where nothing was there to count."""

    campaigns: int
    null_stacked: float | None  # share of levers without effect that were stacked
    power: float | None  # share of real levers that were stacked
    false_stacks: float  # expected number per campaign
    any_false_stack: float  # share of campaigns with at least one
    false_discovery_rate: float | None  # false among all that were stacked
    reported_effect: float | None  # mean reported effect of stacked real levers
    overestimate: float | None  # by how much that exceeds the true one
    runs: float  # lever runs per campaign
    control_runs: int  # per campaign


def simulate(rule: Rule, asked: Campaigns, progress: Progress = SILENT) -> ErrorRates:
    """The error rates of `rule`, its guardrails and whom it judges left out: neither is simulated."""
    key = rule.primary.model_copy(update={"direction": "lower"})  # as the values that are simulated
    bare = rule.model_copy(update={"primary": key, "guardrails": (), "evaluation": None})
    num_null = asked.levers - asked.real
    totals = {True: np.zeros(5), False: np.zeros(5)}
    with (
        scratch_ledger(bare) as ledger,
        progress.task(f"simulate rule {rule.name}", asked.campaigns, "campaigns") as task,
    ):
        for block, num in _blocks(asked):
            fill(ledger, _runs(bare, asked, block, num))
            for is_real, *counts in ledger.execute(COUNT).fetchall():
                totals[is_real] += np.array(counts, dtype=float)
            task.advance(num)
    real, null = totals[True], totals[False]
    null_stacked = float(null[1] / null[0]) if num_null else None
    stacked = real[1] + null[1]
    reported = float(real[2] / real[1]) if real[1] else None
    return ErrorRates(
        campaigns=asked.campaigns,
        null_stacked=null_stacked,
        power=float(real[1] / real[0]) if asked.real else None,
        false_stacks=float(null[1] / asked.campaigns),
        any_false_stack=float(null[4] / asked.campaigns),
        false_discovery_rate=float(null[1] / stacked) if stacked else None,
        reported_effect=reported,
        overestimate=None if reported is None else reported - asked.effect,
        runs=float((real[3] + null[3]) / asked.campaigns),
        control_runs=len(rule.panel_seeds),
    )


def _blocks(asked: Campaigns) -> Iterator[tuple[int, int]]:
    """(block's number, how many campaigns are in it)."""
    size = max(1, LEVERS_PER_BLOCK // asked.levers)
    for block, first in enumerate(range(0, asked.campaigns, size)):
        yield block, min(size, asked.campaigns - first)


def _runs(rule: Rule, asked: Campaigns, block: int, num: int) -> "pyarrow.Table":
    """Every run that the rule could look at in `num` campaigns: campaign, lever, seed, value."""
    import pyarrow

    stream = numpy_stream(asked.seed, "simulate", block)
    seeds = np.array(sorted({*rule.panel_seeds, *rule.judged_seeds}))
    common = stream.standard_normal((num, len(seeds)))  # what runs of one seed share
    names = [
        "control",
        *(f"real-{i}" for i in range(asked.real)),
        *(f"null-{i}" for i in range(asked.levers - asked.real)),
    ]
    sigmas = asked.sigma * np.exp(asked.spread * stream.standard_normal((num, len(names))))
    sigmas[:, 0] = asked.sigma
    parts: list[tuple[NDArray, NDArray, NDArray, NDArray]] = []
    for index, name in enumerate(names):
        own_seeds = np.array(rule.panel_seeds if name == "control" else rule.judged_seeds)
        shared = common[:, np.searchsorted(seeds, own_seeds)]
        noise = np.sqrt(asked.rho) * shared + np.sqrt(1 - asked.rho) * stream.standard_normal(shared.shape)
        centre = CONTROL_MEAN - (asked.effect if name.startswith("real") else 0.0)
        value = centre + sigmas[:, index, None] * noise
        campaign = np.repeat(np.arange(num), len(own_seeds))
        parts.append((campaign, np.full(len(campaign), index), np.tile(own_seeds, num), value.ravel()))
    campaign, lever, seed, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    lever_names = pyarrow.DictionaryArray.from_arrays(pyarrow.array(lever.astype(np.int32)), pyarrow.array(names))
    return pyarrow.table({"campaign": campaign, "lever": lever_names.cast("string"), "seed": seed, "value": value})
