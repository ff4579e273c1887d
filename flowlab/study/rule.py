"""A rule written out: what a preset means, and the one form that is sealed, hashed and executed."""

from math import inf
from typing import Any

from flowlab.core.digest import digest_json
from flowlab.core.errors import RuleRefusedError, StudyError
from flowlab.core.vocabulary import CHANNEL_RANGES, ERROR_METRICS
from flowlab.study.recipe import Frozen
from flowlab.study.settings import Guardrail, MetricKey, RuleSettings, StageSettings

PRESETS: dict[str, tuple[StageSettings, ...]] = {
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
"""`paired` confirms at its second seed alone. The last two seeds of `fresh` are fresh: the effect told is theirs."""

LOWEST_SDS, HIGHEST_SDS = -3.0, 100.0
"""Where bars in panel sd end: below, what is clearly worse than the control passes; above, nothing real does."""


class Rule(Frozen):
    """What decides whether a lever is stacked. `evaluation` is the identity of the runs it judges; sealing needs it."""

    name: str
    primary: MetricKey
    panel_seeds: tuple[int, ...]
    judged_seeds: tuple[int, ...]
    stages: tuple[StageSettings, ...]
    guardrails: tuple[Guardrail, ...]
    evaluation: dict[str, Any] | None = None

    def to_json(self) -> dict:
        return self.model_dump(mode="json", exclude_none=True)

    def terms(self) -> dict:
        """What experiments.toml says of the rule: all but the evaluation identity, which the cache decides."""
        return self.model_dump(mode="json", exclude={"evaluation"})

    def roles(self) -> dict[str, list[int]]:
        """The seeds that the rule looks at, by role: panel, discovery, and fresh, which only its last stage sees."""
        *earlier, last = self.stages
        fresh = bool(earlier) and last.first_seed > max(stage.last_seed for stage in earlier)
        begin = last.first_seed - 1 if fresh else len(self.judged_seeds)
        discovery, unseen = self.judged_seeds[:begin], self.judged_seeds[begin:]
        return {"panel": list(self.panel_seeds), "discovery": list(discovery), "fresh": list(unseen)}

    def judging(self, evaluation: dict[str, Any]) -> "Rule":
        """The rule for runs that are evaluated in this way: cache, validation drives, draws, noise bank, solver."""
        return self.model_copy(update={"evaluation": evaluation})

    def digest(self) -> str:
        """The name under which the ledger seals this rule."""
        return digest_json(self.to_json())


def write_out(name: str, settings: RuleSettings, primary: MetricKey) -> Rule:
    """The rule that `settings` mean. Raises StudyError for a stage that can never be reached with the seeds given."""
    stages = settings.stages if settings.preset is None else PRESETS[settings.preset]
    assert stages is not None
    for position, stage in enumerate(stages):
        if stage.last_seed > len(settings.judged_seeds):
            raise StudyError(
                f"rules.{name}: stage {stage.name!r} needs {stage.last_seed} judged seeds, judged_seeds has "
                f"{len(settings.judged_seeds)}. Add seeds to judged_seeds."
            )
        _require_bar_that_decides(name, stage, stages[:position], largest_difference(primary))
        unpaired = set(settings.judged_seeds[stage.first_seed - 1 : stage.last_seed]) - set(settings.panel_seeds)
        if stage.statistic == "paired" and unpaired:
            raise StudyError(
                f"rules.{name}: stage {stage.name!r} pairs lever and control at seed {min(unpaired)}, which is not in "
                f"panel_seeds. Add it there."
            )
    return Rule(
        name=name,
        primary=primary,
        panel_seeds=settings.panel_seeds,
        judged_seeds=settings.judged_seeds,
        stages=stages,
        guardrails=settings.guardrails,
    )


def require_sealable(rule: Rule) -> None:
    """Raises RuleRefusedError for a rule that must not be sealed: stages alone say nothing of what a lever spoils."""
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


def preset_rule(name: str, num_controls: int) -> Rule:
    """The preset on its own, for a panel of that size: what can be said of it without a study.

    Stages that pair use the panel's first seeds; the others use seeds of their own.
    """
    stages = PRESETS[name]
    num_judged = max(stage.last_seed for stage in stages)
    pairs = any(stage.statistic == "paired" for stage in stages)
    panel = tuple(range(1001, 1001 + num_controls))
    first = 1001 if pairs else 2001
    settings = RuleSettings(
        preset=name,  # type: ignore[arg-type]
        panel_seeds=panel,
        judged_seeds=tuple(range(first, first + num_judged)),
    )
    return write_out(name, settings, MetricKey(slice="overall"))


def _require_bar_that_decides(
    name: str, stage: StageSettings, earlier: tuple[StageSettings, ...], largest: float
) -> None:
    """Raises StudyError for a stage that no outcome passes, or that every outcome passes which has come so far.

    `largest`: no improvement exceeds it. In panel sd nothing bounds one, so there the limits are what is plausible.
    """
    if stage.bar_unit == "metric" and abs(stage.bar) >= largest:
        what = "no outcome can pass" if stage.bar > 0 else "every outcome passes"
        raise StudyError(
            f"rules.{name}: {what} stage {stage.name!r}: its bar is {stage.bar:g}, and an improvement lies between "
            f"{-largest:g} and {largest:g}. Give a bar between them."
        )
    if stage.bar_unit == "panel-sd" and not LOWEST_SDS <= stage.bar <= HIGHEST_SDS:
        what = "hardly an outcome passes" if stage.bar > 0 else "nearly every outcome passes"
        raise StudyError(
            f"rules.{name}: {what} stage {stage.name!r}: its bar is {stage.bar:g} panel sd. Give one from "
            f"{LOWEST_SDS:g} to {HIGHEST_SDS:g}."
        )
    for other in earlier:
        same = (other.statistic, other.first_seed, other.num_seeds, other.bar_unit)
        if same == (stage.statistic, stage.first_seed, stage.num_seeds, stage.bar_unit) and other.bar >= stage.bar:
            raise StudyError(
                f"rules.{name}: whatever passes stage {other.name!r} passes stage {stage.name!r} too: they look at the "
                f"same seeds, and its bar {stage.bar:g} is not higher. Raise it, or remove the stage."
            )
