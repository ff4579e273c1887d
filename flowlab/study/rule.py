"""A rule written out: what a preset means, and the one form that is sealed, hashed and executed."""

from math import inf
from typing import Any

from pydantic import Field

from flowlab.core.digest import digest_json
from flowlab.core.errors import RuleRefusedError, StudyError
from flowlab.core.vocabulary import CHANNEL_RANGES, ERROR_METRICS
from flowlab.study.recipe import Frozen
from flowlab.study.settings import Guardrail, MetricKey, RuleSettings, ScreenBar, StageSettings

PUBLISHED_SIGMA = 0.014
"""The sd over seeds of the published pilot, for which the presets' bars were made."""

CLIMB_BARS = (0.012, 0.012, 0.013, 0.013, 0.014, 0.016)
CLIMB_STACKS = (None, 0.036, 0.028, 0.024, 0.020, 0.016)
"""`climb`: what is at most so much better over the first n seeds, n = 1 .. 6, is dropped; what is more, stacks."""

PRESETS: dict[str, tuple[StageSettings, ...]] = {
    "climb": tuple(
        StageSettings(name=f"seed-{n}", statistic="panel", num_seeds=n, bar=bar, stack_above=above)
        for n, (bar, above) in enumerate(zip(CLIMB_BARS, CLIMB_STACKS, strict=True), start=1)
    ),
    "screen": (StageSettings(name="confirm", statistic="panel", num_seeds=3, bar=0.008),),
    "two-sigma": (StageSettings(name="keep", statistic="panel", num_seeds=1, bar=2.0, bar_unit="panel-sd"),),
    "paired": (
        StageSettings(name="keep", statistic="paired", num_seeds=1, bar=0.010),
        StageSettings(name="confirm", statistic="paired", num_seeds=1, bar=0.010, first_seed=2),
    ),
    "panel": (
        StageSettings(name="triage", statistic="paired", num_seeds=1, bar=0.010),
        StageSettings(name="stack", statistic="panel", num_seeds=2, bar=0.015),
    ),
    "fresh": (
        StageSettings(name="triage", statistic="panel", num_seeds=1, bar=0.010),
        StageSettings(name="discover", statistic="panel", num_seeds=2, bar=0.015),
        StageSettings(name="stack", statistic="panel", num_seeds=2, bar=0.010, first_seed=3),
    ),
}
"""`climb` judges at seeds of its panel, one at a time. `screen` confirms what a screen sent on, alone. `paired`
confirms at its second seed alone; `fresh` at two that its earlier stages did not see."""

INSIDE = ("climb", "paired", "panel")
"""Presets whose judged seeds are the panel's first ones; the others judge at seeds of their own."""

LOWEST_SDS, HIGHEST_SDS = -3.0, 100.0
"""Where bars in sd end: below, what is clearly worse than the control passes; above, nothing real does."""

LEAST_SIGMA_DEGREES = 15
"""Of freedom, for bars in units of sigma: with the 7 of a panel of 8 `climb` stacks 2.4% of nulls, with 15 1.5%."""


class Sigma(Frozen):
    """The standard deviation over seeds of the primary metric, as it was measured before the bars were sealed."""

    value: float = Field(gt=0)
    df: int = Field(ge=1)


class Rule(Frozen):
    """What decides whether a lever is stacked. `evaluation` is the identity of the runs it judges; sealing needs it.

    What is None is no part of the rule's JSON, so that a rule from before there was such a thing keeps its digest.
    """

    name: str
    primary: MetricKey
    panel_seeds: tuple[int, ...]
    judged_seeds: tuple[int, ...]
    stages: tuple[StageSettings, ...]
    guardrails: tuple[Guardrail, ...]
    evaluation: dict[str, Any] | None = None
    calibration_seeds: tuple[int, ...] | None = None
    sigma: Sigma | None = None
    rho: float | None = None
    rho_from: str | None = None
    screen: ScreenBar | None = None

    def to_json(self) -> dict:
        return self.model_dump(mode="json", exclude_none=True)

    def terms(self) -> dict:
        """What experiments.toml says of the rule: all but the evaluation identity, which the cache decides, and the
        sigma that is measured.
        """
        return self.model_dump(mode="json", exclude={"evaluation", "sigma"})

    def design(self) -> dict:
        """What has to stand before the panel is seen: all but the bars, and the sigma that some of them are in."""
        fixed = self.to_json()
        fixed.pop("sigma", None)
        fixed.pop("screen", None)
        bars = ("bar", "bar_unit", "stack_above")
        fixed["stages"] = [{key: of[key] for key in of if key not in bars} for of in fixed["stages"]]
        return fixed

    def design_digest(self) -> str:
        """The name under which a calibration registers the design."""
        return digest_json(self.design())

    def roles(self) -> dict[str, list[int]]:
        """The seeds that the rule looks at, by role: panel, calibration, discovery, and fresh, which only its last
        stage sees.
        """
        *earlier, last = self.stages
        fresh = bool(earlier) and last.first_seed > max(stage.last_seed for stage in earlier)
        begin = last.first_seed - 1 if fresh else len(self.judged_seeds)
        discovery, unseen = self.judged_seeds[:begin], self.judged_seeds[begin:]
        calibration = {"calibration": list(self.calibration_seeds)} if self.calibration_seeds else {}
        return {"panel": list(self.panel_seeds), **calibration, "discovery": list(discovery), "fresh": list(unseen)}

    @property
    def control_seeds(self) -> tuple[int, ...]:
        """Where the control is trained for this rule: the panel's seeds, then those that only measure sigma."""
        return (*self.panel_seeds, *(self.calibration_seeds or ()))

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """Where a lever is trained first: the judged seeds of the first stage."""
        return self.judged_seeds[self.stages[0].first_seed - 1 : self.stages[0].last_seed]

    @property
    def is_in_sigma(self) -> bool:
        """Whether some bar is in units of the sigma that is sealed with the rule."""
        units = [stage.bar_unit for stage in self.stages] + ([self.screen.bar_unit] if self.screen else [])
        return "sigma" in units

    def measured(self, sigma: Sigma | None) -> "Rule":
        """The rule with that sigma, if its bars are in units of one."""
        return self.model_copy(update={"sigma": sigma}) if self.is_in_sigma else self

    def judging(self, evaluation: dict[str, Any]) -> "Rule":
        """The rule for runs that are evaluated in this way: cache, validation drives, draws, noise bank, solver."""
        return self.model_copy(update={"evaluation": evaluation})

    def digest(self) -> str:
        """The name under which the ledger seals this rule."""
        return digest_json(self.to_json())


def write_out(name: str, settings: RuleSettings, primary: MetricKey) -> Rule:
    """The rule that `settings` mean. Raises StudyError for a stage that can never be reached with the seeds given."""
    stages, screen = settings.stages, settings.screen
    if settings.preset is not None:
        stages = PRESETS[settings.preset]
        screen = ScreenBar() if settings.preset == "screen" and screen is None else screen
        if settings.bars == "sigma":
            stages = tuple(in_sigma(stage) for stage in stages)
            screen = None if screen is None else in_sigma(screen)
    assert stages is not None
    for position, stage in enumerate(stages):
        if stage.last_seed > len(settings.judged_seeds):
            raise StudyError(
                f"rules.{name}: stage {stage.name!r} needs {stage.last_seed} judged seeds, judged_seeds has "
                f"{len(settings.judged_seeds)}. Add seeds to judged_seeds."
            )
        _require_bar_that_decides(name, stage, stages[:position], largest_difference(primary))
        unpaired = set(settings.judged_seeds[stage.first_seed - 1 : stage.last_seed]) - set(settings.panel_seeds)
        if stage.pairs and unpaired:
            raise StudyError(
                f"rules.{name}: stage {stage.name!r} pairs lever and control at seed {min(unpaired)}, which is not in "
                f"panel_seeds. Add it there."
            )
    rule = Rule(
        name=name,
        primary=primary,
        panel_seeds=settings.panel_seeds,
        judged_seeds=settings.judged_seeds,
        stages=stages,
        guardrails=settings.guardrails,
        calibration_seeds=settings.calibration_seeds or None,
        rho=settings.rho,
        rho_from=settings.rho_from,
        screen=screen,
    )
    _require_its_numbers(rule)
    return rule


def _require_its_numbers(rule: Rule) -> None:
    """Raises StudyError for a rule that could never know the sigma or the rho that it asks for, or asks for none."""
    degrees = len(rule.control_seeds) - 1
    if rule.is_in_sigma and degrees < LEAST_SIGMA_DEGREES:
        raise StudyError(
            f"rules.{rule.name} has bars in units of sigma, which {degrees + 1} controls would measure with {degrees} "
            f"degrees of freedom, expected {LEAST_SIGMA_DEGREES} or more. Add "
            f"{LEAST_SIGMA_DEGREES - degrees} seeds to calibration_seeds, or give bars in the metric's units."
        )
    is_adjusted = any(stage.statistic == "adjusted" for stage in rule.stages)
    if is_adjusted and rule.rho is None:
        raise StudyError(
            f"rules.{rule.name} has a stage of the statistic 'adjusted', and no rho. Give rho, measured on other runs "
            f"than it will judge, and rho_from, which says on which."
        )
    if rule.rho is not None and not is_adjusted:
        raise StudyError(f"rules.{rule.name} has rho, and no stage of the statistic 'adjusted'. Leave it out.")


def in_sigma(given: Any) -> Any:
    """A stage or screen of a preset with its bars in units of sigma in place of the metric's."""
    if given.bar_unit != "metric":
        return given
    scaled = {
        name: round(value / PUBLISHED_SIGMA, 3)
        for name in ("bar", "stack_above")
        if (value := getattr(given, name, None)) is not None
    }
    return given.model_copy(update=scaled | {"bar_unit": "sigma"})


def require_sealable(rule: Rule) -> None:
    """Raises RuleRefusedError for a rule that must not be sealed: without guardrails, or in a sigma hardly known."""
    require_guarded(rule)
    if rule.is_in_sigma and (rule.sigma is None or rule.sigma.df < LEAST_SIGMA_DEGREES):
        known = "no" if rule.sigma is None else str(rule.sigma.df)
        raise RuleRefusedError(
            f"rule {rule.name!r} has bars in units of sigma, and the ledger knows it with {known} degrees of freedom, "
            f"expected {LEAST_SIGMA_DEGREES} or more: flowlab run trains the controls that measure it, then seals."
        )


def require_guarded(rule: Rule) -> None:
    """Raises RuleRefusedError for a rule whose guardrails hold nothing: stages do not say what a lever spoils."""
    if not rule.guardrails:
        raise RuleRefusedError(
            f"rule {rule.name!r} has no guardrails, so a lever could pass it and spoil everything else. Add to "
            f'rules.{rule.name}: guardrails = [{{ slice = "overall", margin = 0.004 }}]'
        )
    for guardrail in rule.guardrails:
        if guardrail.margin >= largest_difference(guardrail):
            raise RuleRefusedError(
                f"rule {rule.name!r}: every outcome passes the guardrail {guardrail.shown()}: its margin is "
                f"{guardrail.margin:g}, and no value is worse than another by {largest_difference(guardrail):g}. "
                f"Lower the margin."
            )
    if rule.evaluation is None:
        raise RuleRefusedError(f"rule {rule.name!r} does not say how the runs it judges are evaluated.")


def largest_difference(key: MetricKey) -> float:
    """By how much two values of that number can differ at most: infinity for a channel of which no range is known.

    No error in raw action units exceeds the range of its channel, and a correlation goes from -1 to 1.
    """
    if key.metric not in ERROR_METRICS:
        return 2.0
    low, high = CHANNEL_RANGES.get(key.channel, (-inf, inf))
    return high - low


def preset_rule(name: str, num_controls: int, *, inside: bool | None = None) -> Rule:
    """The preset on its own, for a panel of that size: what can be said of it without a study.

    `inside`: whether it judges at the panel's first seeds, as far as they go; None as the preset does (`INSIDE`).
    """
    num_judged = max(stage.last_seed for stage in PRESETS[name])
    panel = tuple(range(1001, 1001 + num_controls))
    others = tuple(range(2001, 2001 + num_judged))
    is_inside = name in INSIDE if inside is None else inside
    judged = (*panel, *others)[:num_judged] if is_inside else others
    settings = RuleSettings(preset=name, panel_seeds=panel, judged_seeds=judged)  # type: ignore[arg-type]
    return write_out(name, settings, MetricKey(slice="overall"))


def _require_bar_that_decides(
    name: str, stage: StageSettings, earlier: tuple[StageSettings, ...], largest: float
) -> None:
    """Raises StudyError for a stage that no outcome passes, or that every outcome passes which has come so far.

    `largest`: no improvement exceeds it. In sd nothing bounds one, so there the limits are what is plausible.
    """
    if stage.bar_unit == "metric" and abs(stage.bar) >= largest:
        what = "no outcome can pass" if stage.bar > 0 else "every outcome passes"
        raise StudyError(
            f"rules.{name}: {what} stage {stage.name!r}: its bar is {stage.bar:g}, and an improvement lies between "
            f"{-largest:g} and {largest:g}. Give a bar between them."
        )
    if stage.bar_unit != "metric" and not LOWEST_SDS <= stage.bar <= HIGHEST_SDS:
        what = "hardly an outcome passes" if stage.bar > 0 else "nearly every outcome passes"
        raise StudyError(
            f"rules.{name}: {what} stage {stage.name!r}: its bar is {stage.bar:g} {stage.bar_unit.replace('-', ' ')}. "
            f"Give one from {LOWEST_SDS:g} to {HIGHEST_SDS:g}."
        )
    if stage.stack_above is not None and stage.stack_above < stage.bar:
        raise StudyError(
            f"rules.{name}: stage {stage.name!r} stacks above {stage.stack_above:g} and drops up to {stage.bar:g}: an "
            f"improvement between them would do both. Give stack_above {stage.bar:g} or more."
        )
    if stage.stack_above is not None and stage.stack_above >= (largest if stage.bar_unit == "metric" else inf):
        raise StudyError(
            f"rules.{name}: nothing stacks at once at stage {stage.name!r}: its stack_above is "
            f"{stage.stack_above:g}, and an improvement lies between {-largest:g} and {largest:g}. Lower it, or leave "
            f"it out."
        )
    for other in earlier:
        if other.stack_above == other.bar:
            raise StudyError(
                f"rules.{name}: stage {stage.name!r} is never reached: stage {other.name!r} drops up to {other.bar:g} "
                f"and stacks whatever is more. Raise its stack_above, or remove the stages after it."
            )
        same = (other.statistic, other.first_seed, other.num_seeds, other.bar_unit)
        if same == (stage.statistic, stage.first_seed, stage.num_seeds, stage.bar_unit) and other.bar >= stage.bar:
            raise StudyError(
                f"rules.{name}: whatever passes stage {other.name!r} passes stage {stage.name!r} too: they look at the "
                f"same seeds, and its bar {stage.bar:g} is not higher. Raise it, or remove the stage."
            )
