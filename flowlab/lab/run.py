"""One cohort from its cache to its journals. Start reading here: this is the whole life of a run."""

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.cache.cache import Cache, ResidentSplit
from flowlab.core.errors import DiskError, DivergedError, FlowlabError, ResumeError, is_out_of_memory
from flowlab.core.files import OF_DISK, trouble
from flowlab.core.progress import SILENT, Progress
from flowlab.core.vocabulary import FULL_PATH, PURPOSE
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.draw_bank import BankWriter
from flowlab.evaluate.draws import draw_shape
from flowlab.evaluate.frames import cover, read_frames
from flowlab.evaluate.scorer import Scorer
from flowlab.lab.banks import tell_draws
from flowlab.lab.clock import Clock
from flowlab.lab.conditions import train_conditions, val_condition
from flowlab.lab.environment import describe_environment, git_revision
from flowlab.lab.ground import Ground, prepare_stats, validation_frames
from flowlab.lab.in_loop import load_in_loop
from flowlab.lab.plan import PlannedRun
from flowlab.lab.policies import Facts
from flowlab.lab.pulse import Pulse, forget_pulse
from flowlab.lab.run_dir import RunDir
from flowlab.lab.sharing import take_free
from flowlab.lab.together import cohorts_of
from flowlab.policy.build import seen_tokens
from flowlab.study.lever import changed_keys
from flowlab.study.selection import selection_for
from flowlab.study.study import CONTROL, Study
from flowlab.train.checkpoint import Resume, policy_of
from flowlab.train.cohort import Cohort, Run
from flowlab.train.crash import Crash
from flowlab.train.data import Conditions, TrainData, train_data
from flowlab.train.fit import Listener, Trained, fit
from flowlab.train.validate import Validation, validation_data


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
    RunFailedError for what nobody foresaw. `import_s`: how long this process had been there before.
    """
    clock = Clock(import_s)
    planned = {item.run.run_id: item for item in runs}
    failed: list[FlowlabError] = []
    with ExitStack() as stack:
        folders = take_free(study.runs, planned, stack, study.run_copies)
        alike: dict[tuple[int, str, str, bool], list[Run]] = {}
        for run_id, folder in folders.items():
            run = planned[run_id].run
            state = folder.resume(run.recipe.train.steps)
            supply = ground.supplies[run.lever]
            in_loop = planned[run_id].purpose == FULL_PATH
            key = (state.step if state else 0, supply.cache.cache_id, supply.stats_digest, in_loop)
            alike.setdefault(key, []).append(run)
        for _, together in sorted(alike.items(), key=lambda item: item[0], reverse=True):
            for cohort in cohorts_of(together, ground.supplies[together[0].lever].cache, device):
                failed += _run_or_halve(study, ground, cohort, planned, folders, device, progress, clock)
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
    clock: Clock,
) -> list[FlowlabError]:
    """The errors of a cohort, none if it went well. One that does not fit into memory is run as two halves."""
    items = [planned[run.run_id] for run in cohort.runs]
    outs = [folders[run.run_id] for run in cohort.runs]
    try:
        try:
            run_cohort(study, ground, cohort, items, outs, device, progress, clock)
        except ResumeError as error:  # of what was kept, and fits the decoder no more
            for out in outs:
                out.discard_resume(str(error))
            run_cohort(study, ground, cohort, items, outs, device, progress, clock)
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
        for error in _run_or_halve(study, ground, half, planned, folders, device, progress, clock)
    ]


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
    clock: Clock,
) -> None:
    """Cache -> batches -> trained decoders -> draws -> readouts -> metric rows, each run's into its own journal."""
    steps, cache = cohort.shape.train.steps, ground.supplies[cohort.runs[0].lever].cache
    pulse = Pulse(outs, clock, progress, steps)
    pulse.begin("load")
    with progress.under_way("load the cache"):
        data, validation, scorer, facts = load(study, ground, cohort, items[0].purpose, device, progress)
    kept = [out.resume(steps) for out in outs]
    for item, out, state in zip(items, outs, kept, strict=True):
        register(study, ground, item, out)
        start(study, cohort, out, device, cache, state, progress)

    def crashed(run: int, crash: Crash) -> None:
        pulse.end(run)
        outs[run].crashed(crash)

    listener = Listener(
        record=lambda run, rows: outs[run].metrics(rows),
        keep=lambda run, state: outs[run].keep(state),
        crashed=crashed,
        rung=lambda run, step, policy: outs[run].save_policy(policy, facts[run].to_metadata(step), step),
        stepped=pulse.stepped,
        lap=clock.lap,
    )
    try:
        pulse.begin("train", kept[0].step if kept[0] else 0)
        trained = fit(
            cohort,
            data,
            validation,
            listener,
            spec=facts[0].spec,
            resume=[state for state in kept if state],
            sample=scorer.sample,
            progress=pulse,
        )
        with ExitStack() as unfinished:  # of banks: what is not kept at its end is thrown away
            pulse.begin("evaluate", steps)
            banks = evaluate(cohort, trained, scorer, ground, outs, unfinished, pulse)
            pulse.begin("save")
            finish(study.name, cohort, facts, trained, banks, scorer, outs, clock)
    except BaseException:  # Ctrl-C among it: what was spent counts
        clock.tell_last(outs, pulse.phase)
        pulse.stop()
        raise


def load(
    study: Study, ground: Ground, cohort: Cohort, purpose: str | None, device: torch.device, progress: Progress
) -> tuple[TrainData, Validation, Scorer, list[Facts]]:
    """What the cohort trains on, what it is validated on, how it is scored, and what each policy will say of itself."""
    recipe, supply = cohort.shape, ground.supplies[cohort.runs[0].lever]
    spec, tokens = seen_tokens(recipe.decoder, supply.cache.spec)
    if purpose == FULL_PATH:
        inputs = study.setup(cohort.runs[0].lever).inputs
        train, conditions, val = load_in_loop(study, supply.cache, inputs, tokens, device, progress)
    else:
        train, conditions, val = load_splits(cohort, supply.cache, tokens, device, progress)
    rows = validation_rows(ground, supply.cache)
    stats = prepare_stats(study, supply.stats_cache, recipe)
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
    return data, validation, scorer, [Facts(run.run_id, run.recipe, spec, slots, channels) for run in cohort.runs]


def load_splits(
    cohort: Cohort, cache: Cache, tokens: list[int], device: torch.device, progress: Progress
) -> tuple[ResidentSplit, Mapping[str, Conditions], ResidentSplit]:
    """Both sides of the cohort's cache on `device`; between them, in the variants that it trains on, the conditions of
    the train side. All conditions are those of the `tokens` that its decoders see, wherever they fit.
    """
    drops_history = any(run.recipe.train.history_dropout for run in cohort.runs)
    variants = ("normal", "no-history") if drops_history else ("normal",)
    val = replace(cache.split("val", device, ()), condition={"normal": val_condition(cache, tokens, device, progress)})
    train = cache.split("train", device, ())
    return train, train_conditions(cache, variants, tokens, cohort, device, progress), val


def validation_rows(ground: Ground, cache: Cache) -> NDArray[np.int64] | None:
    """Which rows of a cache's validation side are the study's validation frames, in their order; None if all are."""
    if cache.cache_id == ground.frames_cache.cache_id:
        return None
    return cover(validation_frames(ground.frames_cache), validation_frames(cache))


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
    out.attempt = attempt
    out.trained_from(cache)
    if out.discarded:
        progress.say(f"{out.discarded}: the run starts anew")
    if attempt:
        why = f": {out.discarded}" if out.discarded else ""
        out.journal.event("resumed", f"from step {kept.step if kept else 0}{why}")
    out.discarded = ""


def evaluate(
    cohort: Cohort,
    trained: Trained,
    scorer: Scorer,
    ground: Ground,
    outs: list[RunDir],
    unfinished: ExitStack,
    progress: Progress,
) -> dict[int, BankWriter]:
    """The metric rows of each readout and baseline, of every decoder that is still whole; by run its bank of draws.

    The draws of all runs are made block by block and go to disk; one run's at a time are brought back and scored. Banks
    wait in `unfinished` until they are kept.
    """
    whole = [run for run in range(len(outs)) if run not in trained.crashed]
    if not whole:
        return {}
    shape = draw_shape(trained.objective, trained.decoder, scorer.settings)
    banks = {
        run: unfinished.enter_context(outs[run].begin_draws(scorer.frames, shape, scorer.settings.precision))
        for run in whole
    }
    scorer.draw(trained.objective, trained.decoder, banks, progress)
    train_action = ground.frames_cache.split("train", variants=()).action  # a baseline is the same for all runs
    baseline_rows = scorer.baseline_rows(train_action.numpy())
    with progress.task("score", len(whole), "runs") as task:
        for run in whole:
            task.advance()
            try:
                outs[run].metrics(scorer.rows(scorer.raw(banks[run].draws)))
            except DivergedError:
                trained.crashed[run] = Crash(cohort.shape.train.steps, "draws")
                outs[run].crashed(trained.crashed[run])
                continue
            outs[run].metrics(baseline_rows)
    return banks


def finish(
    study_name: str,
    cohort: Cohort,
    facts: list[Facts],
    trained: Trained,
    banks: dict[int, BankWriter],
    scorer: Scorer,
    outs: list[RunDir],
    clock: Clock,
) -> None:
    """Keep each policy and its draws, with what they are, and close its journal; a crashed run has said so already."""
    clock.lap("evaluate")
    clock.tell(outs)
    for position, (run, own, out) in enumerate(zip(cohort.runs, facts, outs, strict=True)):
        if position not in trained.crashed:
            step = own.recipe.train.steps
            digest = out.save_policy(policy_of(trained.decoder, position), own.to_metadata(step))
            whose = {"study": study_name, "run_id": run.run_id, "lever": run.lever, "seed": run.seed, "step": step}
            told = tell_draws(whose | {"policy_digest": digest}, scorer.settings, scorer.space)
            out.keep_draws(banks[position], told)
            clock.lap("save")
            clock.tell([out])
            out.journal.finished()
        out.forget_resume()
        forget_pulse(out.path)
