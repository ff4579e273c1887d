"""Writes the lines that journals hold: one method a kind. `rows.py` is the reader of the same format."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from flowlab.core.types import MetricRow
from flowlab.journal.journal import RUN_JOURNAL, STUDY_JOURNAL, Journal


class RunJournal(Journal):
    """The journal of one run: `<runs>/<run_id>/journal.jsonl`. The folder's name is the run's id."""

    @classmethod
    def of(cls, runs_dir: Path, run_id: str) -> Self:
        """The journal of run `run_id`, open for appending."""
        return cls(runs_dir / run_id / RUN_JOURNAL)

    def registered(
        self,
        *,
        run_id: str,
        study: str,
        lever: str,
        seed: int,
        replicate: int,
        recipe: Mapping[str, Any],
        recipe_digest: str,
        control_digest: str,
        cache_id: str,
        evaluation_id: str,
        evaluation: Mapping[str, Any],
        changed_keys: Iterable[str] = (),
        hypothesis: str = "",
        tags: Iterable[str] = (),
        origin: str | None = None,
    ) -> None:
        """What the run is, before it starts. It changes the recipe `control_digest`; tags are "taxonomy:value".

        `origin` says where the run was imported from; rules never stack on such a run. None for a run of our own.
        """
        self.append(
            "registered",
            run_id=run_id,
            study=study,
            lever=lever,
            seed=seed,
            replicate=replicate,
            recipe=dict(recipe),
            recipe_digest=recipe_digest,
            control_digest=control_digest,
            cache_id=cache_id,
            evaluation_id=evaluation_id,
            evaluation=dict(evaluation),
            changed_keys=list(changed_keys),
            hypothesis=hypothesis,
            tags=list(tags),
            **({} if origin is None else {"origin": origin}),
        )

    def started(
        self,
        *,
        attempt: int,
        device: str,
        cohort_size: int,
        threads: int,
        pid: int,
        environment: Mapping[str, str],
        git_revision: str,
    ) -> None:
        """A process begins (attempt 0) or continues (1, 2, ...) to work on the run."""
        self.append(
            "started",
            attempt=attempt,
            device=device,
            cohort_size=cohort_size,
            threads=threads,
            pid=pid,
            environment=dict(environment),
            git_revision=git_revision,
        )

    def metrics(self, rows: Iterable[MetricRow]) -> None:
        """Metric rows, one line for all of them. Step -1 is the end of the run."""
        self.append("metrics", rows=[_told(row) for row in rows])

    def wall_time(self, phases: Mapping[str, float]) -> None:
        """Seconds spent by this attempt in each phase: import, load, train, validate, evaluate."""
        self.append("wall_time", phases={phase: float(seconds) for phase, seconds in phases.items()})

    def artifact(self, name: str, digest: str, num_bytes: int) -> None:
        """A file that the run left in its folder."""
        self.append("artifact", name=name, digest=digest, bytes=num_bytes)

    def event(self, what: str, detail: str = "") -> None:
        """Something that happened: "resumed", "interrupted" (the only one that changes the run's state), ..."""
        self.append("event", what=what, detail=detail)

    def finished(self) -> None:
        """The run is complete; its metrics at step -1 count from now on."""
        self.append("finished")

    def crashed(self, reason: str, step: int) -> None:
        """The run gave up at `step`."""
        self.append("crashed", reason=reason, step=step)


class StudyJournal(Journal):
    """The study's own journal: `<runs>/study.jsonl`."""

    @classmethod
    def of(cls, runs_dir: Path) -> Self:
        """The study's journal, open for appending."""
        return cls(runs_dir / STUDY_JOURNAL)

    def cache(
        self, *, cache_id: str, identity: Mapping[str, Any], num_train: int, num_val: int, val_drives_digest: str
    ) -> None:
        """A cache that runs train from. Writing the same one again is harmless."""
        self.append(
            "cache",
            cache_id=cache_id,
            identity=dict(identity),
            num_train=num_train,
            num_val=num_val,
            val_drives_digest=val_drives_digest,
        )

    def seal(self, *, digest: str, rule: Mapping[str, Any], simulated: Mapping[str, Any] | None = None) -> None:
        """A rule that judges from now on (`Rule.to_json()`), and the error rates that were shown before."""
        self.append("seal", digest=digest, rule=dict(rule), simulated=simulated)

    def amend(
        self,
        *,
        digest: str,
        rule: Mapping[str, Any],
        amended_digest: str,
        reason: str,
        simulated: Mapping[str, Any] | None = None,
    ) -> None:
        """A rule that takes the place of the sealed rule `amended_digest` from now on."""
        self.append(
            "amend", digest=digest, rule=dict(rule), amended_digest=amended_digest, reason=reason, simulated=simulated
        )

    def base(
        self,
        *,
        control_digest: str,
        cache_id: str,
        evaluation_id: str,
        stacked: Iterable[str],
        recipe: Mapping[str, Any],
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        """What levers are compared with from now on: the control recipe, with the levers stacked into it in order.

        `thresholds` are the maneuver thresholds that every run with this evaluation is scored by.
        """
        self.append(
            "base",
            control_digest=control_digest,
            cache_id=cache_id,
            evaluation_id=evaluation_id,
            stacked=list(stacked),
            recipe=dict(recipe),
            **({} if thresholds is None else {"thresholds": dict(thresholds)}),
        )

    def encoder(
        self,
        *,
        encoder_key: str,
        encoder_digest: str,
        file_name: str,
        train_drives: Iterable[str],
        settings: Mapping[str, Any],
    ) -> None:
        """The frozen encoder for these settings from now on, until another line of the same key."""
        self.append(
            "encoder",
            encoder_key=encoder_key,
            encoder_digest=encoder_digest,
            file_name=file_name,
            train_drives=list(train_drives),
            settings=dict(settings),
        )

    def stack(
        self,
        *,
        lever: str,
        recipe_digest: str,
        rule_digest: str,
        control_digest: str,
        cache_id: str,
        evaluation_id: str,
        changes: Mapping[str, Any],
        new_control_digest: str,
        replicate_seed: int,
        effect: float,
    ) -> None:
        """A lever that goes into the base, because the rule said so. The new base owes one run at `replicate_seed`."""
        self.append(
            "stack",
            lever=lever,
            recipe_digest=recipe_digest,
            rule_digest=rule_digest,
            control_digest=control_digest,
            cache_id=cache_id,
            evaluation_id=evaluation_id,
            changes=dict(changes),
            new_control_digest=new_control_digest,
            replicate_seed=replicate_seed,
            effect=effect,
        )

    def verdicts(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Decisions as the views gave them at this moment."""
        self.append("verdicts", rows=[dict(row) for row in rows])

    def planned(self, run_ids: Iterable[str]) -> None:
        """Runs that are about to be trained, so that the record shows one that was thrown away and trained again."""
        self.append("planned", run_ids=list(run_ids))

    def ingested(self, *, journal: str, from_offset: int, to_offset: int, digest: str) -> None:
        """The part of a run's journal that the ledger reads next. Called by flowlab.ledger.ingest alone."""
        self.append("ingested", journal=journal, from_offset=from_offset, to_offset=to_offset, digest=digest)


def _told(row: MetricRow) -> list[Any]:
    """A metric row as a journal has it: the drive comes last, where there is one."""
    told = [row.metric, row.channel, row.slice, row.readout, float(row.value), int(row.step)]
    return [*told, row.drive] if row.drive else told
