"""Campaigns of a few runs whose numbers a reader can judge by hand."""

from collections.abc import Mapping
from pathlib import Path

from flowlab.core.digest import digest_json
from flowlab.core.types import MetricRow
from flowlab.journal.lines import RunJournal
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.rule import PRESETS, Rule
from flowlab.study.settings import Guardrail, MetricKey
from flowlab.verdict.judge import Verdict, read_verdicts
from flowlab.verdict.seal import seal_rule

PRIMARY = MetricKey(metric="l1", channel="steering", slice="spike_frame", readout="meank")
EVALUATION = {"named": "evaluation"}
FLAT = Guardrail(metric="l1", channel="steering", slice="flat_frame", readout="meank", margin=0.004)


def panel_rule(
    panel_seeds: tuple[int, ...] = (1001, 1002), guardrails: tuple[Guardrail, ...] = (), name: str = "panel"
) -> Rule:
    """The preset `panel`, judging at seeds 1001, 1002."""
    return Rule(
        name=name,
        primary=PRIMARY,
        panel_seeds=panel_seeds,
        judged_seeds=(1001, 1002),
        stages=PRESETS["panel"],
        guardrails=guardrails,
    )


def sealable(rule: Rule) -> Rule:
    """The rule with what a seal asks for: guardrails, and the evaluation identity that campaigns have."""
    return rule.model_copy(update={"guardrails": rule.guardrails or (FLAT,), "evaluation": EVALUATION})


def preset(name: str, panel_seeds: tuple[int, ...], judged_seeds: tuple[int, ...]) -> Rule:
    """A preset on the primary metric, without guardrails."""
    return Rule(
        name=name,
        primary=PRIMARY,
        panel_seeds=panel_seeds,
        judged_seeds=judged_seeds,
        stages=PRESETS[name],
        guardrails=(),
    )


class Campaign:
    """Writes finished runs and asks what the sealed rules say of them."""

    def __init__(self, ledger: Path, runs: Path, rule: Rule) -> None:
        """Seals `rule`. One without guardrails gets the flat frames', and runs that do not say pass it."""
        self.ledger, self.runs, self.primary = ledger, runs, rule.primary
        self.flat = None if rule.guardrails else 0.1
        seal_rule(sealable(rule), runs, ledger)

    def run(
        self,
        lever: str,
        seed: int,
        value: float | None,
        *,
        flat: float | None = None,
        replicate: int = 0,
        recipe: str = "",
        control: str = "base",
        cache: str = "cache",
        evaluation: str = "evaluation",
        ending: str = "finished",
        origin: str | None = None,
        tags: tuple[str, ...] = (),
        scored_from: str = "",
        drives: Mapping[str, tuple[int, float]] | None = None,
        device: str = "cpu",
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """The id of a run with final value `value`; `ending` is finished, crashed or running.

        `drives`: by the name of a drive, how many frames of the primary slice it has and the metric on those.
        """
        flat = self.flat if flat is None else flat
        recipe_digest = recipe or (control if lever == "control" else f"{lever}-recipe")
        run_id = f"{lever}-{seed}-{replicate}-{recipe_digest}-{cache}-{evaluation}"
        with RunJournal.of(self.runs, run_id) as journal:
            journal.registered(
                run_id=run_id,
                study="test",
                lever=lever,
                seed=seed,
                replicate=replicate,
                recipe={},
                recipe_digest=recipe_digest,
                control_digest=control,
                cache_id=cache,
                evaluation_id=digest_json({"named": evaluation}),
                evaluation={"named": evaluation},
                origin=origin,
                tags=[f"levers:{tag}" for tag in (lever, *tags) if lever != "control"]
                + [f"scored-from:{scored_from}"] * bool(scored_from),
            )
            told = dict(environment or {})
            journal.started(
                attempt=0, device=device, cohort_size=1, threads=1, pid=1, environment=told, git_revision=""
            )
            values = {self.primary.slice: value, FLAT.slice: flat}
            journal.metrics(
                [MetricRow("l1", "steering", where, "meank", x) for where, x in values.items() if x is not None]
            )
            for drive, (num_frames, on_drive) in (drives or {}).items():
                where = f"drive:{drive}" if self.primary.slice == "overall" else f"{self.primary.slice}:drive:{drive}"
                journal.metrics([MetricRow("num_frames", "", where, "meank", num_frames)])
                journal.metrics([MetricRow("l1", "steering", where, "meank", on_drive)])
            if ending == "finished":
                journal.finished()
            if ending == "crashed":
                journal.crashed("loss is not finite", 3)
        return run_id

    def controls(self, values: dict[int, float], flat: float | None = None) -> None:
        for seed, value in values.items():
            self.run("control", seed, value, flat=flat)

    def verdicts(self) -> dict[str, Verdict]:
        """The verdict on each lever, by its name."""
        ingest(self.ledger, self.runs)
        return {row.lever: row for row in read_verdicts(self.ledger)}

    def ask(self, view: str) -> list[dict]:
        """The rows of a view, or of `view` with an order or a condition behind it."""
        ingest(self.ledger, self.runs)
        table = read(self.ledger, f"select * from {view}")
        return [dict(zip(table.columns, row, strict=True)) for row in table.rows]
