"""A rule written out: what a preset means, and the one form that is sealed, hashed and executed."""

from flowlab.core.digest import digest_json
from flowlab.core.errors import StudyError
from flowlab.study.recipe import Frozen
from flowlab.study.settings import Guardrail, MetricKey, RuleSettings, StageSettings

PRESETS: dict[str, tuple[StageSettings, ...]] = {
    "panel": (
        StageSettings(name="triage", statistic="paired", num_seeds=1, bar=0.010),
        StageSettings(name="stack", statistic="panel", num_seeds=2, bar=0.015),
    ),
}


class Rule(Frozen):
    """What decides whether a lever is stacked. All metrics are errors: lower is better."""

    name: str
    primary: MetricKey
    panel_seeds: tuple[int, ...]
    judged_seeds: tuple[int, ...]
    stages: tuple[StageSettings, ...]
    guardrails: tuple[Guardrail, ...]

    def to_json(self) -> dict:
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """The name under which the ledger seals this rule."""
        return digest_json(self.to_json())


def write_out(name: str, settings: RuleSettings, primary: MetricKey) -> Rule:
    """The rule that `settings` mean. Raises StudyError for a stage that can never be reached with the seeds given."""
    stages = settings.stages if settings.preset is None else PRESETS[settings.preset]
    assert stages is not None
    for stage in stages:
        if stage.num_seeds > len(settings.judged_seeds):
            raise StudyError(
                f"rules.{name}: stage {stage.name!r} needs {stage.num_seeds} judged seeds, judged_seeds has "
                f"{len(settings.judged_seeds)}. Add seeds to judged_seeds."
            )
        unpaired = set(settings.judged_seeds[: stage.num_seeds]) - set(settings.panel_seeds)
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
