"""What `flowlab run` would train, in which cohorts and from which caches; nothing is built, sealed or written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from flowlab.cache.cache import open_cache
from flowlab.core.vocabulary import CONTROL
from flowlab.lab.caches import find_cache, frames_wanted, val_drives, wanted_caches
from flowlab.lab.edits import edited_recipes
from flowlab.lab.exploring import WHY, plan_explored
from flowlab.lab.ground import Ground, open_ground, stats_file
from flowlab.lab.launch import read_statuses, require_computable
from flowlab.lab.loop import median_run_s
from flowlab.lab.plan import PlannedRun, levers_owed, plan_controls, plan_owed, plan_runs
from flowlab.lab.processes import share_out
from flowlab.lab.sealing import rule_for
from flowlab.lab.together import cohorts_of
from flowlab.lab.where import Where
from flowlab.ledger.unread import count_unread
from flowlab.study.study import Study
from flowlab.train.cohort import Run
from flowlab.verdict.judge import OwedRun, read_optional, read_owed
from flowlab.verdict.seal import is_in_force

Asked = Literal["levers", "owed", "optional", "explored"]
ForeseenCohort = tuple[int, str, list[PlannedRun]]


@dataclass(frozen=True)
class Question:
    """What a `flowlab run` was given: levers at seeds, or what is owed, or what is optional, or a change to explore."""

    asked: Asked
    levers: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    again: bool = False


@dataclass(frozen=True)
class Foreseen:
    """What would be trained now.

    `cohorts` has for each program its worker, the id of its cache ("" where that lacks), and its runs. `lacking` names
    who has no cache, or no stats, yet: their runs have no ids before, so all of them would be trained. `seconds` is how
    long it would take by what finished runs took, None where none tells. `notes` are sentences for people.
    """

    planned: list[PlannedRun]
    cohorts: list[ForeseenCohort]
    lacking: tuple[str, ...]
    seconds: float | None
    notes: list[str]

    @property
    def waiting(self) -> list[PlannedRun]:
        return [item for item in self.planned if not item.done]


def foresee(study: Study, question: Question, where: Where) -> Foreseen:
    """What the same `flowlab run` would do now, from the ledger and the caches as they are.

    Raises what that command would raise before it trains: RuleChangedError, StudyError.
    """
    has_ledger = study.ledger.exists()
    owed: list[OwedRun] = []
    if has_ledger and question.asked in ("owed", "optional"):
        owed = (read_owed if question.asked == "owed" else read_optional)(study.ledger)
    levers = levers_owed(study, owed) if question.asked == "owed" else question.levers
    levers = tuple(lever for lever in levers if lever != CONTROL)
    require_computable(study, levers, where.device)
    lacking = lacking_caches(study, levers)
    notes: list[str] = []
    ground = None
    if CONTROL not in lacking:
        ground = open_ground(study, [lever for lever in levers if lever not in lacking])
    statuses = read_statuses(study) if has_ledger else {}
    planned: list[PlannedRun] = []
    if question.asked != "explored" and not (ground is not None and has_ledger and _is_sealed(study, ground)):
        planned += _calibrating(study, ground, statuses)
    if ground is None or lacking:
        planned += _without_ids(study, question, owed)
    elif question.asked == "levers":
        planned += plan_runs(study, ground, question.levers, question.seeds, statuses, again=question.again)
    elif question.asked == "explored":
        planned += plan_explored(study, ground, question.levers[0], question.seeds, statuses)
    elif question.asked == "owed":
        found, notes = plan_owed(study, ground, owed, statuses)
        planned += found
    else:
        planned += _without_ids(study, question, owed)
    planned = list({(item.run.lever, item.run.seed, item.replicate): item for item in reversed(planned)}.values())[::-1]
    waiting = [item for item in planned if not item.done]
    num_unread = count_unread(study.ledger, study.runs)
    if num_unread:
        notes = [f"{num_unread:,} lines of journals are unread: the run would read them first", *notes]
    if ground is not None and has_ledger:
        notes = [*edited_recipes(study, ground, waiting), *notes]
    shares = share_out(waiting, where.slots) if where.executor != "inline" else [waiting]
    cohorts = [cohort for slot, share in enumerate(shares) for cohort in _cohorts(slot, share, ground, where.device)]
    run_s = median_run_s(study) if has_ledger else None
    seconds = None if run_s is None else run_s * max(map(len, shares), default=0)
    return Foreseen(planned, cohorts, lacking, seconds, notes)


def lacking_caches(study: Study, levers: Sequence[str]) -> tuple[str, ...]:
    """Who of the control and these levers has no cache yet, or a cache without the stats that its runs need."""
    frames = find_cache(study, frames_wanted(study))
    if frames is None:
        return (CONTROL, *levers)
    cache = open_cache(frames)
    found = {}
    for wanted in wanted_caches(study, val_drives(cache), tuple(levers)):
        path = find_cache(study, wanted)
        for lever in wanted.levers:
            found[lever] = None if path is None else open_cache(path)
    lacking = [lever for lever, own in found.items() if own is None]
    own_stats = [lever for lever in levers if study.setup(lever).stats == "own" and lever not in lacking]
    needed = [(CONTROL, cache, study.file.control), (CONTROL, found.get(CONTROL), study.control)]
    needed += [(lever, found[lever], study.recipe(lever)) for lever in own_stats]
    lacking += [who for who, own, recipe in needed if own is not None and not stats_file(study, own, recipe).exists()]
    return tuple(dict.fromkeys(lacking))


def _is_sealed(study: Study, ground: Ground) -> bool:
    return is_in_force(rule_for(study, ground), study.ledger)


def _calibrating(study: Study, ground: Ground | None, statuses: Mapping[str, str]) -> list[PlannedRun]:
    """The controls that are trained before the rule is sealed."""
    if ground is not None:
        return plan_controls(study, ground, rule_for(study, ground).control_seeds, statuses)
    why = f"calibrates rule {study.rule.name}"
    return [_nameless(study, CONTROL, seed, why) for seed in study.rule.control_seeds]


def _without_ids(study: Study, question: Question, owed: Sequence[OwedRun]) -> list[PlannedRun]:
    """What would be trained where a cache lacks, without which no run has an id: all of it."""
    if question.asked in ("owed", "optional"):
        known = [run for run in owed if run.lever == CONTROL or run.lever in study.open_levers]
        return [_nameless(study, run.lever, run.seed, run.why) for run in known]
    if question.asked == "explored":
        return [_nameless(study, question.levers[0], seed, WHY) for seed in question.seeds]
    wanted = [(lever, seed, "asked for") for lever in question.levers for seed in question.seeds]
    pairs = [lever for lever in question.levers if lever != CONTROL]
    wanted += [(CONTROL, seed, f"pairs with {lever}") for lever in pairs for seed in question.seeds]
    wanted += [(CONTROL, seed, f"panel of rule {study.rule.name}") for seed in study.rule.panel_seeds]
    return [_nameless(study, *run) for run in wanted]


def _nameless(study: Study, lever: str, seed: int, why: str) -> PlannedRun:
    return PlannedRun(Run(f"{lever}-{seed}", lever, seed, study.recipe(lever)), 0, why, "")


def _cohorts(
    slot: int, share: Sequence[PlannedRun], ground: Ground | None, device: torch.device
) -> list[ForeseenCohort]:
    """The programs that one worker would train, one after another; one that was stopped goes on in its own."""
    alike: dict[tuple[str, str], list[PlannedRun]] = {}
    supplies = ground.supplies if ground is not None else {}
    for item in share:
        supply = supplies.get(item.run.lever)
        key = ("", "") if supply is None else (supply.cache.cache_id, supply.stats_digest)
        alike.setdefault(key, []).append(item)
    found = []
    for (cache_id, _), items in sorted(alike.items(), key=lambda pair: pair[0], reverse=True):
        by_id = {item.run.run_id: item for item in items}
        supply = supplies.get(items[0].run.lever)
        for cohort in cohorts_of([item.run for item in items], supply.cache if supply else None, device):
            found.append((slot, cache_id, [by_id[run.run_id] for run in cohort.runs]))
    return found
