"""How many control seeds a rule should have: what a larger panel buys in fewer false stacks."""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

from flowlab.core.progress import SILENT, Progress
from flowlab.study.rule import Rule
from flowlab.verdict.simulate import Campaigns, simulate

SIZES = (2, 4, 8, 16, 32)
LEVERS_PER_SIZE = 20_000
WORTH = 0.5  # doubling the panel is worth its runs while it spares a campaign so many false stacks


@dataclass(frozen=True)
class PanelSize:
    """What a rule would do with a panel of `controls` seeds."""

    controls: int
    null_stacked: float  # share of levers without effect that are stacked
    false_stacks: float  # expected per campaign
    power: float | None


def try_panel_sizes(rule: Rule, asked: Campaigns, progress: Progress = SILENT) -> list[PanelSize]:
    """The error rates of `rule` with panels of 2, 4, ... 32 controls, as far as its paired stages can do with them."""
    levers = asked.levers + (asked.levers == asked.real)  # one at least that does nothing
    fewer = replace(asked, levers=levers, campaigns=ceil(LEVERS_PER_SIZE / levers))
    tried = []
    for size in SIZES:
        resized = with_panel_of(rule, size)
        if resized is not None:
            rates = simulate(resized, fewer, progress)
            null_stacked = rates.null_stacked or 0.0
            tried.append(PanelSize(size, null_stacked, null_stacked * (asked.levers - asked.real), rates.power))
    return tried


def recommend_size(tried: list[PanelSize]) -> int:
    """The smallest panel whose double would spare a campaign less than half a false stack; else the largest tried."""
    for size, double in pairwise(tried):
        if size.false_stacks - double.false_stacks < WORTH:
            return size.controls
    return tried[-1].controls


def with_panel_of(rule: Rule, size: int) -> Rule | None:
    """`rule` with `size` control seeds, those that its stages pair with among them; None if these are more."""
    pairing = [stage for stage in rule.stages if stage.pairs]
    paired = {seed for stage in pairing for seed in rule.judged_seeds[stage.first_seed - 1 : stage.last_seed]}
    if size < len(paired):
        return None
    others = [seed for seed in rule.panel_seeds if seed not in paired]
    new = range(max(*rule.panel_seeds, *rule.judged_seeds) + 1, max(*rule.panel_seeds, *rule.judged_seeds) + 1 + size)
    return rule.model_copy(update={"panel_seeds": tuple([*sorted(paired), *others, *new][:size])})
