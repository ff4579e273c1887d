"""Seals the study's rule for the ground that its runs stand on, after showing how often it would fool anyone."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import ceil

from flowlab.core.progress import Progress
from flowlab.lab.ground import Ground
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.rule import Rule, require_sealable
from flowlab.study.study import Study
from flowlab.verdict.rejudged import Rejudged, rejudge
from flowlab.verdict.seal import amend_rule, is_in_force, require_amendable, seal_rule, tell_clock
from flowlab.verdict.simulate import Campaigns, ErrorRates, simulate

NUM_LEVERS = 20_000  # simulated before a rule is sealed: shares are then exact to about 0.003
ASSUMED_SIGMA = 0.014  # of the published pilot, until the ledger knows the study's own
LEAST_DEGREES = 3
EFFECT = 0.02


@dataclass(frozen=True)
class Foretold:
    """A rule, and what it did to simulated levers, half of them real."""

    rule: Rule
    asked: Campaigns
    is_sigma_known: bool
    rates: ErrorRates

    def to_json(self) -> dict:
        """What is sealed with the rule."""
        return {"asked": asdict(self.asked), "rates": asdict(self.rates)}


Show = Callable[[Foretold], None]


def rule_for(study: Study, ground: Ground) -> Rule:
    """The study's rule, judging runs as they are evaluated on this ground."""
    return study.rule.judging(ground.base.evaluation)


def seal_study_rule(study: Study, ground: Ground, progress: Progress, show: Show) -> bool:
    """Whether the rule was sealed just now; False if it was before. Its error rates are shown first.

    Raises RuleChangedError if another rule is in force, RuleRefusedError for a rule that must not be sealed.
    """
    rule = rule_for(study, ground)
    ingest(study.ledger, study.runs, runs_too=False)
    if is_in_force(rule, study.ledger):
        return False
    require_sealable(rule)
    foretold = foretell(study, rule, progress)
    show(foretold)
    return seal_rule(rule, study.runs, study.ledger, foretold.to_json())


def amend_study_rule(
    study: Study, ground: Ground, reason: str, progress: Progress, show: Show, look: Callable[[list[Rejudged]], None]
) -> None:
    """Put the study's rule in the place of the one in force, after showing error rates and every past lever under both.

    Raises RuleRefusedError, before anything is shown, for an amendment that must not be.
    """
    rule = rule_for(study, ground)
    require_sealable(rule)
    ingest(study.ledger, study.runs)
    old = require_amendable(rule, reason, study.ledger)
    tell_clock(study.ledger, progress)
    foretold = foretell(study, rule, progress)
    show(foretold)
    look(rejudge(rule, old.digest, study.ledger))
    amend_rule(rule, reason, study.runs, study.ledger, foretold.to_json())


def preview_amendment(study: Study, ground: Ground, reason: str) -> list[Rejudged]:
    """Every past lever under the rule in force and under the study's; nothing is changed. Raises as amending does."""
    rule = rule_for(study, ground)
    require_sealable(rule)
    ingest(study.ledger, study.runs)
    old = require_amendable(rule, reason or "preview", study.ledger)
    return rejudge(rule, old.digest, study.ledger)


def foretell(study: Study, rule: Rule, progress: Progress) -> Foretold:
    """The error rates of `rule` for as many levers as the study has, half of them 0.02 better."""
    sigma = known_sigma(study)
    levers = max(2, len(study.levers))
    asked = Campaigns(
        levers=levers,
        real=levers // 2,
        effect=EFFECT,
        sigma=ASSUMED_SIGMA if sigma is None else sigma,
        rho=0.0,
        spread=0.0,
        campaigns=ceil(NUM_LEVERS / levers),
        seed=0,
    )
    return Foretold(rule, asked, sigma is not None, simulate(rule, asked, progress))


def known_sigma(study: Study) -> float | None:
    """The standard deviation over seeds that the ledger knows for the primary metric; None from too few runs."""
    key = study.rule.primary
    question = """
        select sigma
        from pooled_sigma join rules using (rule_digest)
        where role = 'primary' and df >= ? and sigma > 0
            and metric = ? and channel = ? and slice = ? and drive = ? and readout = ?
        order by df desc limit 1"""
    rows = read(
        study.ledger, question, [LEAST_DEGREES, key.metric, key.channel, key.slice, key.drive or "", key.readout]
    ).rows
    return rows[0][0] if rows else None
