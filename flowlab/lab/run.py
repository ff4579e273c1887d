"""One cohort from its cache to its journals. Start reading here: this is the whole life of a run."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.cache.cache import Cache, ResidentSplit
from flowlab.core.errors import DiskError, DivergedError, FlowlabError, ResumeError
from flowlab.core.files import OF_DISK, trouble
from flowlab.core.progress import SILENT, Progress
from flowlab.core.vocabulary import PURPOSE
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.draw_bank import bank_of
from flowlab.evaluate.frames import cover, read_frames
from flowlab.evaluate.scorer import Scorer
from flowlab.lab.banks import tell_draws
from flowlab.lab.environment import describe_environment, git_revision
from flowlab.lab.ground import Ground, prepare_stats, validation_frames
from flowlab.lab.plan import PlannedRun
from flowlab.lab.policies import Facts
from flowlab.lab.run_dir import RunDir
from flowlab.lab.sharing import take_free
from flowlab.policy.build import seen_tokens
from flowlab.study.lever import changed_keys
from flowlab.study.selection import selection_for
from flowlab.study.study import CONTROL, Study
from flowlab.train.checkpoint import Resume, policy_of
from flowlab.train.cohort import Cohort, Run, group_into_cohorts
from flowlab.train.crash import Crash
from flowlab.train.data import train_data
from flowlab.train.fit import Listener, Trained, fit
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
    study: Study,
    ground: Ground,
    runs: list[PlannedRun],
    device: torch.device,
    progress: Progress = SILENT,
    import_s: float = 0.0,
) -> None:
    """Train and evaluate `runs` in this process, in as few cohorts as shapes, caches and their progress allow.

    Runs that another process is at, or has ended meanwhile, are left to it (lab/sharing.py waits for them).
    A cohort that fails does not keep the others from their end; then the first one's FlowlabError is raised, a
    RunFailedError for what nobody foresaw.
    """
    planned = {item.run.run_id: item for item in runs}
    failed: list[FlowlabError] = []
    with ExitStack() as stack:
        folders = take_free(study.runs, planned, stack)
        alike: dict[tuple[int, str, str], list[Run]] = {}
        for run_id, folder in folders.items():
            run = planned[run_id].run
            state = folder.resume(run.recipe.train.steps)
            supply = ground.supplies[run.lever]
            key = (state.step if state else 0, supply.cache.cache_id, supply.stats_digest)
            alike.setdefault(key, []).append(run)
        for _, together in sorted(alike.items(), key=lambda item: item[0], reverse=True):
            for cohort in group_into_cohorts(together, largest=len(together)):
                failed += _run_or_halve(study, ground, cohort, planned, folders, device, progress, import_s)
    if failed:
        raise failed[0]


def _run_or_halve(
    study: Study,
    ground: Ground,
    cohort: Cohort,
    planned: dict[str, PlannedRun],
    folders: dict[str, RunDir],
    device: torch.device,
    progress: Progress,
    import_s: float,
) -> list[FlowlabError]:
    """The errors of a cohort, none if it went well. One that does not fit into memory is run as two halves."""
    items = [planned[run.run_id] for run in cohort.runs]
    outs = [folders[run.run_id] for run in cohort.runs]
    try:
        try:
            run_cohort(study, ground, cohort, items, outs, device, progress, import_s)
        except ResumeError as error:  # of what was kept, and fits the decoder no more
            for out in outs:
                out.discard_resume(str(error))
            run_cohort(study, ground, cohort, items, outs, device, progress, import_s)
    except FlowlabError as error:
        return [error]
    except Exception as error:  # a defect, or out of memory: the other cohorts have no part in it
        run_ids = [run.run_id for run in cohort.runs]
        if not (is_out_of_memory(error) and cohort.size > 1):
            for item, out in zip(items, outs, strict=True):
                with suppress(OSError):  # there may be no room for that either
                    register(study, ground, item, out)
                    out.interrupted(error)
            return [_of_disk(error, study, run_ids) or outs[0].failed(error, run_ids)]
    else:
        return []
    middle = cohort.size // 2
    progress.say(f"out of memory: the cohort of {cohort.size} runs goes on as {middle} and {cohort.size - middle}")
    if device.type == "cuda":
        torch.cuda.empty_cache()
    halves = (Cohort(cohort.runs[:middle]), Cohort(cohort.runs[middle:]))
    return [
        error
        for half in halves
        for error in _run_or_halve(study, ground, half, planned, folders, device, progress, import_s)
    ]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation was refused: by CUDA, by Python, or by torch's allocator on a CPU, which has no class."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _of_disk(error: Exception, study: Study, run_ids: list[str]) -> DiskError | None:
    """The error for runs that stopped since the file system refused something; None for any other cause."""
    if not isinstance(error, OSError) or error.errno not in OF_DISK:
        return None
    return DiskError(
        f"{', '.join(run_ids)} stopped: {trouble(error, study.runs)} Give the same command again to go on."
    )


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
    recipe, supply = cohort.shape, ground.supplies[cohort.runs[0].lever]
    with clock.phase("load"):
        train, val, rows = load_splits(ground, cohort, supply.cache, device)
        stats = prepare_stats(study, supply.stats_cache, recipe)
        spec, tokens = seen_tokens(recipe.decoder, supply.cache.spec)
        conditions = {variant: _take(condition, tokens) for variant, condition in train.condition.items()}
        horizon = recipe.decoder.horizon
        data = train_data(
            conditions["normal"], train.action, stats.space, stats.density, horizon, conditions.get("no-history")
        )
        frames = read_frames(val, supply.cache.channels, rows, tokens)
        definitions = define_metrics(study.file.slices, frames.channels, ground.thresholds)
        truth = torch.from_numpy(frames.truth).to(device)
        validation = validation_data(frames.condition, truth, stats.space, recipe.evaluation.bank_seed, horizon)
    selection = selection_for(study.file.selection, frames.channels)
    scorer = Scorer(frames, definitions, stats.space, recipe.evaluation, selection)
    slots, channels = data.action.shape[1], stats.space.channels
    facts = [Facts(run.run_id, run.recipe, spec, slots, channels) for run in cohort.runs]
    kept = [out.resume(recipe.train.steps) for out in outs]
    for item, out, state in zip(items, outs, kept, strict=True):
        register(study, ground, item, out)
        start(study, cohort, out, device, supply.cache, state, progress)
    with clock.phase("train"):
        trained = fit(
            cohort,
            data,
            validation,
            Listener(
                record=lambda run, rows: outs[run].metrics(rows),
                keep=lambda run, state: outs[run].keep(state),
                crashed=lambda run, crash: outs[run].crashed(crash),
                rung=lambda run, step, policy: outs[run].save_policy(policy, facts[run].to_metadata(step), step),
            ),
            spec=spec,
            resume=[state for state in kept if state],
            sample=scorer.sample,
            progress=progress,
        )
    clock.phases["validate"] = trained.validate_s
    clock.phases["train"] -= trained.validate_s
    with clock.phase("evaluate"):
        draws = evaluate(cohort, trained, scorer, ground, outs, progress)
    finish(study.name, cohort, facts, trained, draws, scorer, outs, clock)


def load_splits(
    ground: Ground, cohort: Cohort, cache: Cache, device: torch.device
) -> tuple[ResidentSplit, ResidentSplit, NDArray[np.int64] | None]:
    """Both sides of the cohort's cache on `device`, with the variants that it trains on.

    Last, which rows of the validation side are the study's validation frames, in their order; None if all are.
    """
    drops_history = any(run.recipe.train.history_dropout for run in cohort.runs)
    variants = ("normal", "no-history") if drops_history else ("normal",)
    train, val = cache.split("train", device, variants), cache.split("val", device, ("normal",))
    if cache.cache_id == ground.frames_cache.cache_id:
        return train, val, None
    return train, val, cover(validation_frames(ground.frames_cache), validation_frames(cache))


def _take(condition: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """The tokens of a condition (N, S, D) that a decoder sees; the condition itself if it sees all."""
    return condition if len(tokens) == condition.shape[1] else condition[:, tokens]


def register(study: Study, ground: Ground, item: PlannedRun, out: RunDir) -> None:
    """Write down once what this run is, before it does anything."""
    if out.count("registered"):
        return
    run, base, supply = item.run, ground.base, ground.supplies[item.run.lever]
    setup = study.setup(run.lever)
    settings = study.file.levers.get(run.lever)
    record: dict[str, Any] = {
        "run_id": run.run_id,
        "study": study.name,
        "lever": run.lever,
        "seed": run.seed,
        "replicate": item.replicate,
        "recipe": setup.to_json() | ({"stats": "own"} if setup.stats == "own" else {}),
        "recipe_digest": supply.recipe_digest(run.recipe),
        "control_digest": base.control_digest,
        "cache_id": supply.cache.cache_id,
        "evaluation": base.evaluation,
        "evaluation_id": base.evaluation_id,
        "changed_keys": changed_keys(study.base, setup) + (["stats"] if setup.stats == "own" else []),
        "hypothesis": settings.hypothesis if settings else "",
        "tags": tags(study, run.lever, run.recipe.objective.kind)
        + ([] if item.purpose is None else [f"{PURPOSE}:{item.purpose}"]),
    }
    out.journal.registered(**record)
    out.write_record(record)


def tags(study: Study, lever: str, head: str) -> list[str]:
    """The fixed taxonomy: scale, head, levers."""
    settings = study.file.levers.get(lever)
    names = [] if lever == CONTROL else [lever, *(settings.tags if settings else ())]
    return [f"scale:{study.file.split.scale}", f"head:{head}", *(f"levers:{name}" for name in dict.fromkeys(names))]


def start(
    study: Study,
    cohort: Cohort,
    out: RunDir,
    device: torch.device,
    cache: Cache,
    kept: Resume | None,
    progress: Progress,
) -> None:
    """Note that this process takes the run up, on what, from which content of a cache, and from where it goes on."""
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
    out.trained_from(cache)
    if out.discarded:
        progress.say(f"{out.discarded}: the run starts anew")
    if attempt:
        why = f": {out.discarded}" if out.discarded else ""
        out.journal.event("resumed", f"from step {kept.step if kept else 0}{why}")
    out.discarded = ""


def evaluate(
    cohort: Cohort, trained: Trained, scorer: Scorer, ground: Ground, outs: list[RunDir], progress: Progress
) -> dict[int, NDArray[np.floating]]:
    """The metric rows of each readout and baseline, of every decoder that is still whole; by run the draws, as kept."""
    if len(trained.crashed) == len(outs):
        return {}
    draws = scorer.draw(trained.objective, trained.decoder, progress)
    train_action = ground.frames_cache.split("train", variants=()).action  # a baseline is the same for all runs
    baseline_rows = scorer.baseline_rows(train_action.numpy())
    for run, out in enumerate(outs):
        if run in trained.crashed:
            continue
        try:
            out.metrics(scorer.rows(scorer.raw(draws[run])))
        except DivergedError:
            trained.crashed[run] = Crash(cohort.shape.train.steps, "draws")
            out.crashed(trained.crashed[run])
            continue
        out.metrics(baseline_rows)
    return {run: draws[run] for run in range(len(outs)) if run not in trained.crashed}


def finish(
    study_name: str,
    cohort: Cohort,
    facts: list[Facts],
    trained: Trained,
    draws: dict[int, NDArray[np.floating]],
    scorer: Scorer,
    outs: list[RunDir],
    clock: Clock,
) -> None:
    """Keep each policy and its draws, with what they are, and close its journal; a crashed run has said so already."""
    for position, (run, own, out) in enumerate(zip(cohort.runs, facts, outs, strict=True)):
        out.journal.wall_time(clock.phases)
        if position not in trained.crashed:
            step = own.recipe.train.steps
            digest = out.save_policy(policy_of(trained.decoder, position), own.to_metadata(step))
            whose = {"study": study_name, "run_id": run.run_id, "lever": run.lever, "seed": run.seed, "step": step}
            told = tell_draws(whose | {"policy_digest": digest}, scorer.settings, scorer.space)
            out.save_draws(bank_of(draws[position], scorer.frames, told), scorer.frames)
            out.journal.finished()
        out.forget_resume()
