"""Seals the study's rule for the ground that its runs stand on, after showing how often it would fool anyone."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any

from flowlab.core.progress import Progress
from flowlab.lab.ground import Base, Ground
from flowlab.ledger.connection import read, reading
from flowlab.ledger.ingest import ingest
from flowlab.study.rule import PUBLISHED_SIGMA, Rule, Sigma, require_sealable
from flowlab.study.study import Study
from flowlab.verdict.design import FEWEST_LEVERS
from flowlab.verdict.rejudged import Rejudged, rejudge
from flowlab.verdict.seal import amend_rule, is_in_force, require_amendable, rules_in_force, seal_rule, tell_clock
from flowlab.verdict.simulate import Campaigns, ErrorRates, simulate

NUM_LEVERS = 20_000  # simulated before a rule is sealed: shares are then exact to about 0.003
LEAST_DEGREES = 7
"""Of freedom, from which on a sigma counts as measured: those of a panel of 8. The 3 of a panel of 4 leave a factor 6.6
between the ends of its interval.
"""
EFFECT = 0.02


@dataclass(frozen=True)
class MeasuredSigma:
    """The sd of the primary metric over seeds of the control, from `df` + 1 of them, and its 95% interval."""

    value: float
    df: int
    low: float
    high: float


@dataclass(frozen=True)
class Foretold:
    """A rule, and what it did to simulated levers, half of them real: at sigma, and at both ends of its interval.

    `measured` is what the study's own controls say of sigma, None before there are two of them; with fewer than
    LEAST_DEGREES degrees of freedom it is shown, and the published sigma simulated.
    """

    rule: Rule
    asked: Campaigns
    measured: MeasuredSigma | None
    rates: ErrorRates
    at_ends: tuple[tuple[float, ErrorRates], ...]

    @property
    def is_sigma_known(self) -> bool:
        return is_known(self.measured)

    def to_json(self) -> dict:
        """What is sealed with the rule."""
        told: dict[str, Any] = {"asked": asdict(self.asked), "rates": asdict(self.rates)}
        if self.measured is not None:
            told["sigma"] = asdict(self.measured)
            told["at_ends"] = [{"sigma": sigma, "rates": asdict(rates)} for sigma, rates in self.at_ends]
        return told


Show = Callable[[Foretold], None]


def rule_for(study: Study, ground: Ground) -> Rule:
    """The study's rule, judging runs as they are evaluated on this ground.

    Bars in units of sigma take the one that is sealed with them, or, where they are not sealed yet, what the controls
    of this ground have measured.
    """
    rule = study.rule.judging(ground.base.evaluation)
    if not rule.is_in_sigma or not study.ledger.exists():
        return rule
    for sealed in rules_in_force(study.ledger):
        if sealed.rule.measured(None) == rule:
            return sealed.rule
    measured = measured_sigma(study, ground.base.base_id)
    return rule.measured(None if measured is None else Sigma(value=measured.value, df=measured.df))


def seal_study_rule(study: Study, ground: Ground, progress: Progress, show: Show) -> bool:
    """Whether the rule was sealed just now; False if it was before. Its error rates are shown first.

    Raises RuleChangedError if another rule is in force, RuleRefusedError for a rule that must not be sealed.
    """
    with reading(study.ledger):
        ingest(study.ledger, study.runs, runs_too=False)
        rule = rule_for(study, ground)
        if is_in_force(rule, study.ledger):
            return False
    require_sealable(rule)
    foretold = foretell(study, ground.base, rule, progress)
    show(foretold)
    return seal_rule(rule, study.runs, study.ledger, foretold.to_json())


def amend_study_rule(
    study: Study, ground: Ground, reason: str, progress: Progress, show: Show, look: Callable[[list[Rejudged]], None]
) -> None:
    """Put the study's rule in the place of the one in force, after showing error rates and every past lever under both.

    Raises RuleRefusedError, before anything is shown, for an amendment that must not be.
    """
    ingest(study.ledger, study.runs)
    rule = rule_for(study, ground)
    require_sealable(rule)
    old = require_amendable(rule, reason, study.ledger)
    tell_clock(study.ledger, progress)
    foretold = foretell(study, ground.base, rule, progress)
    show(foretold)
    look(rejudge(rule, old.digest, study.ledger))
    amend_rule(rule, reason, study.runs, study.ledger, foretold.to_json())


def preview_amendment(study: Study, ground: Ground, reason: str) -> list[Rejudged]:
    """Every past lever under the rule in force and under the study's; nothing is changed. Raises as amending does."""
    ingest(study.ledger, study.runs)
    rule = rule_for(study, ground)
    require_sealable(rule)
    old = require_amendable(rule, reason or "preview", study.ledger)
    return rejudge(rule, old.digest, study.ledger)


def foretell(study: Study, base: Base, rule: Rule, progress: Progress) -> Foretold:
    """The error rates of `rule` for as many levers as the study has, half of them real.

    A real one is 0.02 better; where bars are in units of sigma, as many sigma as that is in the published campaign.
    """
    measured = measured_sigma(study, base.base_id)
    known = measured if is_known(measured) else None
    levers = max(2 if rule.screen is None else FEWEST_LEVERS, len(study.levers))
    asked = Campaigns(
        levers=levers,
        real=levers // 2,
        effect=EFFECT if rule.sigma is None else EFFECT / PUBLISHED_SIGMA * rule.sigma.value,
        sigma=PUBLISHED_SIGMA if known is None else known.value,
        rho=0.0,
        spread=0.0,
        campaigns=ceil(NUM_LEVERS / levers),
        seed=0,
    )
    ends = [] if known is None else [known.low, known.high]
    at_ends = tuple((end, simulate(rule, replace(asked, sigma=end), progress)) for end in ends)
    return Foretold(rule, asked, measured, simulate(rule, asked, progress), at_ends)


def is_known(measured: MeasuredSigma | None) -> bool:
    """Whether a sigma was measured with enough degrees of freedom to be called so."""
    return measured is not None and measured.df >= LEAST_DEGREES


def measured_sigma(study: Study, base_id: str = "") -> MeasuredSigma | None:
    """What the control's runs say of the primary metric's sd over seeds: on this base, else on the one with most runs.

    None where no base has two of them, or they do not differ. Beyond 1,000 degrees the number is its own interval.
    """
    key = study.rule.primary
    question = """
        select sd, df, coalesce(sd_low, sd), coalesce(sd_high, sd) from control_spread
        where metric = ? and channel = ? and slice = ? and drive = ? and readout = ? and sd > 0
        order by base_id = ? desc, df desc limit 1"""
    place = [key.metric, key.channel, key.slice, key.drive or "", key.readout, base_id]
    return next((MeasuredSigma(*row) for row in read(study.ledger, question, place).rows), None)
