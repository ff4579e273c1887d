"""`flowlab run` as a function: plan, say, seal, train, ingest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from flowlab.core.errors import MissingError, NotStackedError
from flowlab.core.progress import Progress
from flowlab.journal.lines import StudyJournal
from flowlab.lab.environment import choose_device
from flowlab.lab.executor import execute
from flowlab.lab.plan import PlannedRun, plan_owed, plan_runs
from flowlab.lab.prepare import Ground, open_ground
from flowlab.lab.sealing import Show, seal_study_rule
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.policy.build import build_decoder, build_objective, seen_tokens
from flowlab.policy.objective_check import check_objective
from flowlab.study.recipe import Recipe, model_channels
from flowlab.study.study import Study
from flowlab.study.unused import OWN_OBJECTIVES
from flowlab.train.cohort import shape_signature
from flowlab.train.data import channel_alphas, require_whole_batch
from flowlab.verdict.judge import read_owed


@dataclass(frozen=True)
class Comparison:
    """What a comparison consists of and what was trained for it now."""

    run_ids: list[str]
    trained: list[str]
    problems: list[str]


def compare(
    study: Study,
    levers: Sequence[str],
    seeds: Sequence[int],
    device: str,
    *,
    again: bool,
    progress: Progress,
    show: Show,
    announce: Callable[[list[PlannedRun]], None],
) -> Comparison:
    """Train what the comparison of `levers` at `seeds` lacks, and bring it into the ledger even when interrupted."""
    where = choose_device(device)
    ground = stand(study, progress, show)
    planned = plan_runs(study, ground.base, levers, seeds, read_statuses(study), again=again)
    return carry_out(study, ground, planned, where, progress, announce)


def compare_owed(
    study: Study, device: str, *, progress: Progress, show: Show, announce: Callable[[list[PlannedRun]], None]
) -> Comparison:
    """Train exactly what the sealed rule wants next. Raises MissingError if nothing is owed."""
    where = choose_device(device)
    ground = stand(study, progress, show)
    planned, unknown = plan_owed(study, ground.base, read_owed(study.ledger), read_statuses(study))
    if not planned and not unknown:
        raise MissingError(
            "nothing is owed: the rule has what it needs of every lever. Try another: flowlab run --lever NAME"
        )
    done = carry_out(study, ground, planned, where, progress, announce)
    return Comparison(done.run_ids, done.trained, [*unknown, *done.problems])


def stand(study: Study, progress: Progress, show: Show) -> Ground:
    """The ground that runs stand on: cache and base noted, the rule sealed, every journal read."""
    ground = open_ground(study)
    note_cache(study, ground)
    note_base(study, ground)
    seal_study_rule(study, ground, progress, show)
    return ground


def carry_out(
    study: Study,
    ground: Ground,
    planned: list[PlannedRun],
    where: torch.device,
    progress: Progress,
    announce: Callable[[list[PlannedRun]], None],
) -> Comparison:
    """Train what of `planned` is not done, and bring it into the ledger even when interrupted."""
    problems = ingest(study.ledger, study.runs).problems
    missing = [item for item in planned if not item.done]
    require_trainable(ground, [item.run.recipe for item in missing])
    announce(planned)
    try:
        if missing:
            with StudyJournal.of(study.runs) as journal:
                journal.planned(item.run.run_id for item in missing)
            execute(study, missing, where, progress)
    finally:
        problems += ingest(study.ledger, study.runs).problems
    return Comparison([item.run.run_id for item in planned], [item.run.run_id for item in missing], problems)


def require_trainable(ground: Ground, recipes: Sequence[Recipe]) -> None:
    """Raises a FlowlabError for a recipe that cannot be trained from this cache, before any of it is registered."""
    cache, cpu = ground.cache, torch.device("cpu")
    for recipe in {shape_signature(recipe): recipe for recipe in recipes}.values():
        spec, _ = seen_tokens(recipe.decoder, cache.spec)
        horizon, channels = recipe.decoder.horizon or cache.horizon, model_channels(recipe.action_space, cache.channels)
        build_decoder(recipe.decoder, spec, horizon, len(channels), [0, 1], cpu)
        objective = build_objective([recipe, recipe], horizon, cpu)
        if recipe.objective.kind not in OWN_OBJECTIVES:
            check_objective(recipe.objective.kind, objective, horizon, len(channels))
        require_whole_batch(recipe.train.batch, cache.num_windows("train"))
    for recipe in recipes:
        channel_alphas(recipe.objective.lds, model_channels(recipe.action_space, cache.channels))


def note_cache(study: Study, ground: Ground) -> None:
    """Tell the ledger once which cache the runs come from."""
    cache = ground.cache
    ingest(study.ledger, study.runs)
    if cache.cache_id in {row[0] for row in read(study.ledger, "select cache_id from caches").rows}:
        return
    with StudyJournal.of(study.runs) as journal:
        journal.cache(
            cache_id=cache.cache_id,
            identity=cache.attributes["identity"],
            num_train=cache.num_windows("train"),
            num_val=cache.num_windows("val"),
            val_drives_digest=ground.base.val_digest,
        )


def note_base(study: Study, ground: Ground) -> None:
    """Tell the ledger what levers are compared with from now on, if that has changed.

    Raises NotStackedError if experiments.toml has levers stacked that the ledger does not.
    """
    base = ground.base
    control_digest = base.recipe_digest(study.control)
    _require_stacked(study, control_digest)
    here = (control_digest, base.cache_id, base.evaluation_id(study.control), list(study.stacked))
    question = "select control_digest, cache_id, evaluation_id, stacked from bases order by entry desc limit 1"
    if here in [tuple(row) for row in read(study.ledger, question).rows]:
        return
    with StudyJournal.of(study.runs) as journal:
        journal.base(
            control_digest=here[0],
            cache_id=here[1],
            evaluation_id=here[2],
            stacked=study.stacked,
            recipe=study.control.to_json(),
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
