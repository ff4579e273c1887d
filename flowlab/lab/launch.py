"""`flowlab run` as a function: build the caches it lacks, plan, say, seal, train, ingest."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from flowlab.cache.cache import Cache
from flowlab.core.errors import FlowlabError, MissingError, NotStackedError, RuleRefusedError, StudyError
from flowlab.core.progress import Progress
from flowlab.core.vocabulary import CONTROL
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.metrics import require_slices
from flowlab.journal.lines import StudyJournal
from flowlab.lab.contents import require_known_contents
from flowlab.lab.copies import copy_ended
from flowlab.lab.edits import edited_recipes
from flowlab.lab.ground import Ground, open_ground, val_digest, validation_frames
from flowlab.lab.plan import PlannedRun, levers_owed, plan_controls, plan_owed, plan_runs
from flowlab.lab.sealing import Show, rule_for, seal_study_rule
from flowlab.lab.sharing import train_together
from flowlab.lab.where import Where
from flowlab.ledger.connection import read, reading
from flowlab.ledger.ingest import READER_PATIENCE_S, ingest
from flowlab.policy.build import build_objective, require_arithmetic, require_decoder, seen_tokens
from flowlab.policy.objective_check import check_objective
from flowlab.study.recipe import Recipe, model_channels
from flowlab.study.rule import Rule
from flowlab.study.selection import selection_for
from flowlab.study.study import Study
from flowlab.study.unused import OWN_OBJECTIVES
from flowlab.train.cohort import shape_signature
from flowlab.train.data import channel_alphas, require_whole_batch
from flowlab.verdict.judge import OwedRun, read_broken_panels, read_optional, read_owed
from flowlab.verdict.seal import is_in_force, register_design, tell_clock


@dataclass(frozen=True)
class Launched:
    """What a comparison consists of and what was trained for it now."""

    run_ids: list[str]
    trained: list[str]
    problems: list[str]


def launch(
    study: Study,
    levers: Sequence[str],
    seeds: Sequence[int],
    where: Where,
    *,
    again: bool,
    progress: Progress,
    show: Show,
    announce: Callable[[list[PlannedRun]], None],
) -> Launched:
    """Train what the comparison of `levers` at `seeds` lacks, and bring it into the ledger."""
    others = [lever for lever in levers if lever != CONTROL]
    ground, calibrated = stand_calibrated(study, others, where, progress=progress, show=show, announce=announce)
    planned = plan_runs(study, ground, levers, seeds, read_statuses(study), again=again)
    done = carry_out(study, ground, planned, where, progress, announce)
    return Launched(done.run_ids, calibrated + done.trained, done.problems)


def launch_owed(
    study: Study, where: Where, *, progress: Progress, show: Show, announce: Callable[[list[PlannedRun]], None]
) -> Launched:
    """Train exactly what the sealed rule wants next; says so if that is nothing.

    Raises MissingError where nothing is owed since a panel will never be complete.
    """
    _, calibrated = stand_calibrated(study, (), where, progress=progress, show=show, announce=announce)
    owed = read_owed(study.ledger)
    ground = open_ground(study, levers_owed(study, owed), where.device, progress)
    note_caches(study, ground)
    planned, unknown = plan_owed(study, ground, owed, read_statuses(study))
    if not planned and not unknown:
        if read_broken_panels(study.ledger):
            raise MissingError(why_nothing_owed(study))
        progress.say(why_nothing_owed(study))
        return Launched([], calibrated, [])
    done = carry_out(study, ground, planned, where, progress, announce)
    return Launched(done.run_ids, calibrated + done.trained, [*unknown, *done.problems])


def launch_optional(
    study: Study, where: Where, *, progress: Progress, show: Show, announce: Callable[[list[PlannedRun]], None]
) -> Launched:
    """Train what tells the worth of stacked levers: the control at new seeds, on the bases before and after each stack.

    Says so if nothing is lacking.
    """
    stand_calibrated(study, (), where, progress=progress, show=show, announce=announce)
    lacking: dict[str, list[OwedRun]] = {}
    for run in read_optional(study.ledger):
        lacking.setdefault(run.base_id, []).append(run)
    done = Launched([], [], [])
    for num_stacked in range(len(study.stacked) + 1):
        before = study.with_stacked(study.stacked[:num_stacked])
        ground = open_ground(before, (), where.device, progress)
        planned, unknown = plan_owed(before, ground, lacking.pop(ground.base.base_id, []), read_statuses(study))
        if planned:
            one = carry_out(before, ground, planned, where, progress, announce)
            done = Launched(done.run_ids + one.run_ids, done.trained + one.trained, done.problems + one.problems)
        done = Launched(done.run_ids, done.trained, [*done.problems, *unknown])
    if not done.run_ids:
        progress.say(
            "nothing is optional: no lever was stacked on a base that experiments.toml still describes, or all that "
            "tells its worth is there. Look: flowlab verdict"
        )
    return done


def why_nothing_owed(study: Study) -> str:
    """Why nothing is owed, and what to do instead: the same as the verdicts say."""
    broken = read_broken_panels(study.ledger)
    if not broken:
        return "nothing is owed: the rule has what it needs of every lever. Try another: flowlab run --lever NAME"
    rule, seeds = broken.popitem()
    controls = ", ".join(f"{CONTROL}@{seed}" for seed in seeds)
    return (
        f"nothing is owed: the panel of rule {rule!r} will never be complete, for {controls} crashed. Give it other "
        f"panel_seeds in experiments.toml, and put that on the record: flowlab rule amend --reason TEXT"
    )


def stand(study: Study, levers: Sequence[str], device: torch.device | None, progress: Progress, show: Show) -> Ground:
    """The ground that runs stand on, and the rule sealed on it, with what is known of sigma by now."""
    ground = prepare(study, levers, device, progress)
    seal_study_rule(study, ground, progress, show)
    return ground


def stand_calibrated(
    study: Study,
    levers: Sequence[str],
    where: Where,
    *,
    progress: Progress,
    show: Show,
    announce: Callable[[list[PlannedRun]], None],
) -> tuple[Ground, list[str]]:
    """The ground that runs stand on, and the runs of the panel, which is trained first where no rule is in force yet.

    The rule's seeds, statistics and guardrails are registered before, its bars sealed after it, and before any lever.
    """
    ground = prepare(study, levers, where.device, progress)
    planned = begin_calibration(study, ground)
    if planned is None:
        return ground, []
    done = carry_out(study, ground, planned, where, progress, announce)
    for problem in done.problems:
        progress.say(f"warning: {problem}")
    end_calibration(study, ground, planned, progress, show)
    return ground, done.trained


def begin_calibration(study: Study, ground: Ground) -> list[PlannedRun] | None:
    """The controls that tell sigma before the rule is sealed, its design put on record; None where it is in force."""
    with reading(study.ledger):
        rule = rule_for(study, ground)
        if is_in_force(rule, study.ledger):
            return None
    register_design(rule, study.runs, study.ledger, ground.base.base_id)
    return plan_controls(study, ground, rule.control_seeds, read_statuses(study))


def end_calibration(
    study: Study, ground: Ground, planned: Sequence[PlannedRun], progress: Progress, show: Show
) -> None:
    """Seal the rule, once the controls that tell sigma have run. Raises RuleRefusedError where one of them crashed."""
    with reading(study.ledger):
        _require_whole(study.rule, planned, read_statuses(study))
        ((num_designs,),) = read(study.ledger, "select count(distinct design_digest) from calibrations").rows
    if num_designs > 1:
        progress.say(
            f"note: {num_designs} designs were calibrated and all but this one given up: whoever keeps the panel that "
            f"came out worst stacks more than is told below"
        )
    seal_study_rule(study, ground, progress, show)


def _require_whole(rule: Rule, planned: Sequence[PlannedRun], statuses: Mapping[str, str]) -> None:
    """Raises RuleRefusedError where a control crashed: a panel without it would never be complete."""
    crashed = [item.run.seed for item in planned if statuses.get(item.run.run_id) == "crashed"]
    if crashed:
        raise RuleRefusedError(
            f"rule {rule.name!r} is not sealed: the control crashed at seed {', '.join(map(str, crashed))}, so its "
            f"panel would never be complete. Make the control stable, or give panel_seeds that nobody has seen."
        )


def prepare(study: Study, levers: Sequence[str], device: torch.device | None, progress: Progress) -> Ground:
    """The ground with caches built, caches and base noted, and every journal read."""
    require_computable(study, levers, device)
    with reading(study.ledger):
        for problem in ingest(study.ledger, study.runs, progress).problems:
            progress.say(f"warning: {problem}")
        tell_clock(study.ledger, progress)
    ground = open_ground(study, levers, device, progress)
    require_judgeable(study, ground)
    with reading(study.ledger):
        note_caches(study, ground)
        note_base(study, ground)
    return ground


def require_computable(study: Study, levers: Sequence[str], device: torch.device | None) -> None:
    """Raises StudyError, naming the lever, where the device does not compute in its arithmetic."""
    if device is None:
        return
    for lever in (CONTROL, *levers):
        try:
            require_arithmetic(study.recipe(lever), device)
        except StudyError as error:
            raise StudyError(f"{'control' if lever == CONTROL else f'levers.{lever}'}: {error}") from None


def require_judgeable(study: Study, ground: Ground) -> None:
    """Raises for a primary or guardrail over a slice without validation frames: no run would ever have that number."""
    frames = validation_frames(ground.frames_cache)
    definitions = define_metrics(study.file.slices, frames.channels, ground.thresholds)
    selection = selection_for(study.file.selection, frames.channels)
    require_slices(frames, definitions, [study.rule.primary, *study.rule.guardrails], selection)


def carry_out(
    study: Study,
    ground: Ground,
    planned: list[PlannedRun],
    where: Where,
    progress: Progress,
    announce: Callable[[list[PlannedRun]], None],
) -> Launched:
    """Train what of `planned` is not done, and bring it into the ledger, also where a run failed.

    What another process is training already is waited for instead.
    """
    missing = [item for item in planned if not item.done]
    by_cache = recipes_by_cache(ground, [(item.run.lever, item.run.recipe) for item in missing])
    with reading(study.ledger):
        require_known_contents(study, [cache.attributes for cache, _ in by_cache])
        edited = edited_recipes(study, ground, missing)
    for cache, recipes in by_cache:
        require_trainable(cache, recipes, where.device)
    for sentence in edited:
        progress.say(sentence)
    announce(planned)
    run_ids = [item.run.run_id for item in planned]
    if not missing:
        return Launched(run_ids, [], copy_ended(study, progress))
    with StudyJournal.of(study.runs) as journal:
        journal.planned(item.run.run_id for item in missing)
    executor = where.make_executor()
    try:
        trained = train_together(
            study.runs, missing, lambda runs: executor.execute(study, ground, runs, progress), progress
        )
    except FlowlabError:  # after Ctrl-C nobody waits for this either
        with suppress(FlowlabError):  # the next command brings it in
            ingest(study.ledger, study.runs, patience_s=READER_PATIENCE_S)
            copy_ended(study)
        raise
    problems = ingest(study.ledger, study.runs, progress).problems
    return Launched(run_ids, trained, [*problems, *copy_ended(study, progress)])


def recipes_by_cache(ground: Ground, wanted: Iterable[tuple[str, Recipe]]) -> list[tuple[Cache, list[Recipe]]]:
    """Each cache with the recipes that are trained from it. `wanted`: levers, each with its recipe."""
    found: dict[str, tuple[Cache, list[Recipe]]] = {}
    for lever, recipe in wanted:
        cache = ground.supplies[lever].cache
        found.setdefault(cache.cache_id, (cache, []))[1].append(recipe)
    return list(found.values())


def require_trainable(cache: Cache, recipes: Sequence[Recipe], device: torch.device) -> None:
    """Raises a FlowlabError, with nothing registered, for a recipe that cannot be trained from this cache there."""
    cpu = torch.device("cpu")
    for recipe in {shape_signature(recipe): recipe for recipe in recipes}.values():
        require_arithmetic(recipe, device)
        spec, _ = seen_tokens(recipe.decoder, cache.spec)
        horizon, channels = recipe.decoder.horizon or cache.horizon, model_channels(recipe.action_space, cache.channels)
        require_decoder(recipe.decoder, spec, horizon, len(channels))
        objective = build_objective([recipe, recipe], horizon, cpu)
        if recipe.objective.kind not in OWN_OBJECTIVES:
            check_objective(recipe.objective.kind, objective, horizon, len(channels))
        require_whole_batch(recipe.train.batch, cache.num_windows("train"))
    for recipe in recipes:
        channel_alphas(recipe.objective.lds, model_channels(recipe.action_space, cache.channels))


def note_caches(study: Study, ground: Ground) -> None:
    """Tell the ledger once which caches the runs come from."""
    ingest(study.ledger, study.runs, runs_too=False)
    known = {row[0] for row in read(study.ledger, "select cache_id from caches").rows}
    caches = {supply.cache.cache_id: supply.cache for supply in ground.supplies.values()}
    for cache_id, cache in caches.items():
        if cache_id in known:
            continue
        with StudyJournal.of(study.runs) as journal:
            journal.cache(
                cache_id=cache_id,
                identity=cache.attributes["identity"],
                num_train=cache.num_windows("train"),
                num_val=cache.num_windows("val"),
                val_drives_digest=val_digest(cache),
            )


def note_base(study: Study, ground: Ground) -> None:
    """Tell the ledger what levers are compared with from now on, if that has changed.

    Raises NotStackedError if experiments.toml has levers stacked that the ledger does not.
    """
    base = ground.base
    _require_stacked(study, base.control_digest)
    question = "select base_id, stacked from bases order by entry desc limit 1"
    if (base.base_id, list(study.stacked)) in [tuple(row) for row in read(study.ledger, question).rows]:
        return
    with StudyJournal.of(study.runs) as journal:
        journal.base(
            control_digest=base.control_digest,
            cache_id=ground.control.cache.cache_id,
            evaluation_id=base.evaluation_id,
            stacked=study.stacked,
            recipe=study.base.to_json(),
            thresholds=ground.thresholds,
        )


def _require_stacked(study: Study, control_digest: str) -> None:
    """Raises NotStackedError if experiments.toml and the ledger do not agree on what the base has taken in."""
    stacks = read(study.ledger, "select lever, control_digest, new_control_digest from stacks order by entry").rows
    names = tuple(lever for lever, _, _ in stacks)
    own_words = "write the changes into [control] and remove study.stacked."
    if study.stacked and (names[-len(study.stacked) :] != study.stacked or stacks[-1][2] != control_digest):
        raise NotStackedError(
            f"study.stacked is {list(study.stacked)}, and the ledger has not stacked them on this control and "
            f"cache. Only flowlab stack changes it: restore it, or {own_words}"
        )
    left = [lever for lever, of_digest, _ in stacks if of_digest == control_digest]
    if left:
        raise NotStackedError(
            f"the ledger has stacked {left[-1]!r} on this control, and study.stacked lacks it: complete it with "
            f"flowlab stack {left[-1]}, restore study.stacked, or {own_words}"
        )
    unfounded = """
        select unfounded_stacks.lever, unfounded_stacks.decision
        from unfounded_stacks join stacks using (entry)
        where stacks.new_control_digest = ?"""
    for lever, decision in read(study.ledger, unfounded, [control_digest]).rows if study.stacked else []:
        raise NotStackedError(
            f"{lever!r} is stacked, and the rule that did so says {decision or 'nothing'} of it: the ledger or its "
            f"journal was changed. Look: flowlab ledger verify"
        )


def read_statuses(study: Study) -> dict[str, str]:
    """The state of every run that the ledger knows, by run id."""
    answer = read(study.ledger, "select * from run_status")
    return {row["run_id"]: row["status"] for row in answer.records()}
