"""One cohort from its cache to its journals. Start reading here: this is the whole life of a run."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from flowlab.cache.cache import ResidentSplit
from flowlab.core.errors import DivergedError
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import MetricRow
from flowlab.evaluate.baselines import baseline_chunks
from flowlab.evaluate.draws import draw
from flowlab.evaluate.metrics import score
from flowlab.evaluate.readouts import READOUTS
from flowlab.lab.environment import describe_environment, git_revision
from flowlab.lab.plan import PlannedRun
from flowlab.lab.prepare import Ground, open_ground, prepare_stats
from flowlab.lab.run_dir import RunDir
from flowlab.lab.stats import Stats
from flowlab.policy.decoder import run_weights
from flowlab.study.lever import changed_keys
from flowlab.study.study import CONTROL, Study
from flowlab.train.cohort import Cohort, group_into_cohorts
from flowlab.train.data import require_whole_batch, train_data
from flowlab.train.fit import Trained, fit
from flowlab.train.validate import validation_data


@dataclass
class Clock:
    """Wall time by phase, in seconds."""

    phases: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - begin


def run_all(
    study: Study, runs: list[PlannedRun], device: torch.device, progress: Progress = SILENT, import_s: float = 0.0
) -> None:
    """Train and evaluate `runs` in this process, in as few cohorts as their shapes and their progress allow."""
    ground = open_ground(study)
    planned = {item.run.run_id: item for item in runs}
    with ExitStack() as stack:
        folders = {run_id: stack.enter_context(RunDir(study.runs / run_id)) for run_id in planned}
        at_step: dict[int, list] = {}
        for run_id, folder in folders.items():
            state = folder.resume()
            at_step.setdefault(state.step if state else 0, []).append(planned[run_id].run)
        for _, together in sorted(at_step.items(), reverse=True):
            for cohort in group_into_cohorts(together, largest=len(together)):
                items = [planned[run.run_id] for run in cohort.runs]
                outs = [folders[run.run_id] for run in cohort.runs]
                run_cohort(study, ground, cohort, items, outs, device, progress, import_s)


def run_cohort(
    study: Study,
    ground: Ground,
    cohort: Cohort,
    items: list[PlannedRun],
    outs: list[RunDir],
    device: torch.device,
    progress: Progress,
    import_s: float,
) -> None:
    """Cache -> batches -> trained decoders -> draws -> readouts -> metric rows, each run's into its own journal."""
    clock = Clock({"import": import_s})
    with clock.phase("load"):
        train, val = ground.cache.split("train", device), ground.cache.split("val", device)
        stats = prepare_stats(study, ground.cache, cohort.shape.action_space, train.action)
        data = train_data(train.condition["normal"], train.action, stats.space, stats.density)
        bank_seed = cohort.shape.evaluation.bank_seed
        validation = validation_data(val.condition["normal"], val.action, stats.space, bank_seed)
        require_whole_batch(cohort, data)
    for item, out in zip(items, outs, strict=True):
        register(study, ground, item, out)
        start(study, cohort, out, device)
    with clock.phase("train"):
        resume = [state for out in outs if (state := out.resume())]
        trained = fit(
            cohort,
            data,
            validation,
            record=lambda run, rows: outs[run].metrics(rows),
            keep=lambda run, state: outs[run].keep(state),
            resume=resume,
            progress=progress,
        )
    clock.phases["validate"] = trained.validate_s
    clock.phases["train"] -= trained.validate_s
    with clock.phase("evaluate"):
        evaluate(ground, cohort, trained, stats, train, val, outs, progress)
    finish(trained, outs, clock)


def register(study: Study, ground: Ground, item: PlannedRun, out: RunDir) -> None:
    """Write down once what this run is, before it does anything."""
    if out.count("registered"):
        return
    run, base = item.run, ground.base
    changes = changed_keys(study.control, run.recipe)
    settings = study.file.levers.get(run.lever)
    record: dict[str, Any] = {
        "run_id": run.run_id,
        "study": study.name,
        "lever": run.lever,
        "seed": run.seed,
        "replicate": item.replicate,
        "recipe": run.recipe.to_json(),
        "recipe_digest": base.recipe_digest(run.recipe),
        "control_digest": base.recipe_digest(study.control),
        "cache_id": base.cache_id,
        "evaluation": base.evaluation(run.recipe),
        "evaluation_id": base.evaluation_id(run.recipe),
        "changed_keys": changes,
        "hypothesis": settings.hypothesis if settings else "",
        "tags": tags(study, run.lever, run.recipe.objective.kind),
    }
    out.journal.registered(**record)
    out.write_record(record)


def tags(study: Study, lever: str, head: str) -> list[str]:
    """The fixed taxonomy: scale, head, levers."""
    settings = study.file.levers.get(lever)
    names = [] if lever == CONTROL else [lever, *(settings.tags if settings else ())]
    return [f"scale:{study.file.split.scale}", f"head:{head}", *(f"levers:{name}" for name in dict.fromkeys(names))]


def start(study: Study, cohort: Cohort, out: RunDir, device: torch.device) -> None:
    """Note that this process takes the run up, and on what."""
    attempt = out.count("started")
    out.journal.started(
        attempt=attempt,
        device=str(device),
        cohort_size=cohort.size,
        threads=torch.get_num_threads(),
        pid=os.getpid(),
        environment=describe_environment(device),
        git_revision=git_revision(study.root),
    )
    if attempt:
        state = out.resume()
        out.journal.event("resumed", f"from step {state.step if state else 0}")


def evaluate(
    ground: Ground,
    cohort: Cohort,
    trained: Trained,
    stats: Stats,
    train: ResidentSplit,
    val: ResidentSplit,
    outs: list[RunDir],
    progress: Progress,
) -> None:
    """Draws from every decoder that is still whole, and the metric rows of each readout and baseline."""
    truth, drive = val.action.cpu().numpy(), val.drive.cpu().numpy()
    frame_index = val.frame_index[:, -1].cpu().numpy()
    drive_ids = [val.drive_ids[index] for index in drive.tolist()]
    settings = cohort.shape.evaluation
    draws = draw(trained.decoder, stats.space, val.condition["normal"], drive_ids, frame_index, settings, progress)

    def rows(chunk: np.ndarray, readout: str) -> list[MetricRow]:
        return score(
            chunk,
            truth,
            channels=ground.cache.channels,
            drive=drive,
            drive_ids=val.drive_ids,
            readout=readout,
            thresholds=stats.thresholds,
        )

    baselines = baseline_chunks(val.history_action.cpu().numpy(), train.action.cpu().numpy())
    baseline_rows = [row for name, chunk in baselines.items() for row in rows(chunk, name)]
    for run, out in enumerate(outs):
        if run in trained.crashed:
            continue
        try:
            out.metrics([row for name, readout in READOUTS.items() for row in rows(readout(draws[run]), name)])
        except DivergedError:
            trained.crashed[run] = cohort.shape.train.steps
            continue
        out.metrics(baseline_rows)
        out.save_draws(draws[run])


def finish(trained: Trained, outs: list[RunDir], clock: Clock) -> None:
    """Keep each policy and close its journal: finished, or crashed with the step."""
    for run, out in enumerate(outs):
        if run not in trained.crashed:
            out.save_policy(run_weights(trained.decoder, run), {"run_id": out.path.name})
        out.journal.wall_time(clock.phases)
        if run in trained.crashed:
            out.journal.crashed(reason="loss, gradient or draws are not finite", step=trained.crashed[run])
        else:
            out.journal.finished()
        out.forget_resume()
