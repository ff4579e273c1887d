"""Moves the base: a lever goes into the control once the rule in force says `stack`, and not otherwise."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain, count

from flowlab.cache.cache import Cache
from flowlab.cache.verify import verify_cache
from flowlab.core.errors import LedgerError, NotStackedError
from flowlab.core.files import write_atomic
from flowlab.core.progress import SILENT, Progress
from flowlab.journal.lines import StudyJournal
from flowlab.lab.ground import Base, Ground, open_ground
from flowlab.lab.launch import note_base, note_caches
from flowlab.lab.sealing import rule_for
from flowlab.ledger.connection import let_go, read, reading
from flowlab.ledger.ingest import ingest
from flowlab.ledger.verify import verify
from flowlab.study.document import FILE_NAME
from flowlab.study.rule import Rule
from flowlab.study.stacking import with_stacked
from flowlab.study.study import Study, load_study
from flowlab.verdict.judge import Verdict, read_owed, read_verdicts
from flowlab.verdict.seal import is_in_force, one_at_a_time


@dataclass(frozen=True)
class Stacked:
    """A lever that has gone into the base, and what the new base is owed first.

    `selected_effect` is the improvement that the rule stacked it by, and so too good: `flattered_by` about so much, if
    the lever is truly 0.02 better, as was simulated before the rule was sealed.
    """

    lever: str
    selected_effect: float
    flattered_by: float | None
    stacked: tuple[str, ...]
    replicate_seed: int


def stack(study: Study, lever: str, progress: Progress = SILENT) -> Stacked:
    """Put `lever` into the base: on the record first, then in experiments.toml. Given again, it completes what was cut.

    Raises NotStackedError, saying what is missing, unless the rule in force says `stack` of exactly this recipe;
    LedgerError, with experiments.toml as it was, if the ledger did not take the stack; CacheCorruptError if the cache
    that it was judged on is not as it was built.
    """
    study.require_lever(lever)
    note_caches(study, open_ground(study))
    with one_at_a_time(study.runs), reading(study.ledger):
        study = load_study(study.root)  # another process may have stacked since
        ingest(study.ledger, study.runs)
        verify(study.ledger, study.runs, progress=progress)  # no verdict on numbers that somebody changed
        if lever in study.stacked:
            raise NotStackedError(f"lever {lever!r} is stacked already: {' -> '.join(study.stacked)}.")
        path = (study.root / FILE_NAME).resolve()
        ground = open_ground(study, [lever])
        new = study.with_stacked((*study.stacked, lever))
        new_base = open_ground(new).base
        if new_base.control_digest == ground.base.control_digest:
            raise NotStackedError(f"lever {lever!r} changes nothing of the present base: there is nothing to stack.")
        text = with_stacked(path.read_bytes().decode("utf-8"), new.stacked)  # may refuse, so before anything is written
        begun = _begun(study, ground.base, lever)
        if begun is None:
            note_base(study, ground)
            rule = rule_for(study, ground)
            if not is_in_force(rule, study.ledger):
                raise NotStackedError("no rule is in force, so nothing can be stacked. Seal one: flowlab rule seal")
            verdict = _require_stack(study, ground, rule, lever)
            let_go(study.ledger)  # hashing a cache takes long
            for cache in {cache.path: cache for cache in (ground.frames_cache, *_caches(ground))}:
                verify_cache(cache, progress)  # nor on a cache that somebody changed
            question = "select seed from runs where recipe_digest = ?"
            ran = read(study.ledger, question, [new_base.control_digest]).rows
            with StudyJournal.of(study.runs) as journal:
                journal.stack(
                    lever=lever,
                    recipe_digest=verdict.recipe_digest,
                    rule_digest=verdict.rule_digest,
                    control_digest=ground.base.control_digest,
                    cache_id=ground.control.cache.cache_id,
                    evaluation_id=ground.base.evaluation_id,
                    changes=study.file.levers[lever].set,
                    new_control_digest=new_base.control_digest,
                    replicate_seed=choose_replicate_seed(rule, {seed for (seed,) in ran}),
                    effect=verdict.effect or 0.0,
                )
            problems = ingest(study.ledger, study.runs).problems
            begun = _begun(study, ground.base, lever)
            if begun is None:
                raise LedgerError(
                    f"the stack of {lever!r} did not arrive in the ledger, so {FILE_NAME} was left as it was: "
                    f"{'; '.join(problems)}"
                )
        write_atomic(path, text.encode())
        stacked = load_study(study.root)
        note_base(stacked, open_ground(stacked))
        ingest(study.ledger, study.runs)
    return begun


def finish_stack(study: Study, progress: Progress = SILENT) -> Stacked | None:
    """Complete a stack that is on record and was cut before it was in experiments.toml; None where there is none."""
    rows = read(study.ledger, "select lever from stacks order by entry desc limit 1").rows
    lever = rows[0][0] if rows else None
    if lever is None or lever in study.stacked or lever not in study.levers:
        return None
    if _begun(study, open_ground(study).base, lever) is None:
        return None
    return stack(study, lever, progress)


def _caches(ground: Ground) -> list[Cache]:
    return [supply.cache for supply in ground.supplies.values()]


def _begun(study: Study, base: Base, lever: str) -> Stacked | None:
    """The stack of `lever` that is on record and not in experiments.toml yet: the last one, on this very control."""
    question = """
        select lever, base_id, effect, replicate_seed, simulated_json
        from stacks join rules using (rule_digest)
        order by stacks.entry desc limit 1"""
    for name, base_id, effect, replicate_seed, simulated in read(study.ledger, question).rows:
        if (name, base_id) == (lever, base.base_id) and lever not in study.stacked:
            rates = json.loads(simulated or "{}").get("rates", {})
            return Stacked(lever, effect, rates.get("overestimate"), (*study.stacked, lever), replicate_seed)
    return None


def choose_replicate_seed(rule: Rule, taken: Collection[int]) -> int:
    """Where a new stack is replicated: the first panel seed that no stage has looked at, or one after all of them.

    Never one of `taken`, at which the new base's recipe has run already, as a lever or as a control.
    """
    unseen = [seed for seed in rule.panel_seeds if seed not in rule.judged_seeds]
    after = count(max(*rule.panel_seeds, *rule.judged_seeds) + 1)
    return next(seed for seed in chain(unseen, after) if seed not in taken)


def _require_stack(study: Study, ground: Ground, rule: Rule, lever: str) -> Verdict:
    """The verdict that lets `lever` in. Raises NotStackedError with what is missing."""
    base_id, recipe_digest = ground.base.base_id, ground.recipe_digest(lever, study.recipe(lever))
    replicates = [run for run in read_owed(study.ledger, None, base_id) if run.why == "replicate"]
    if replicates:
        raise NotStackedError(
            f"the base {' -> '.join(study.stacked)} has not been replicated: control@{replicates[0].seed} is owed. "
            f"Run it first: flowlab run --owed"
        )
    found = [
        row
        for row in read_verdicts(study.ledger, rule.digest(), base_id)
        if (row.lever, row.recipe_digest) == (lever, recipe_digest)
    ]
    if not found:
        seeds = ",".join(str(seed) for seed in rule.judged_seeds)
        raise NotStackedError(
            f"rule {rule.name!r} has judged no run of {lever!r} on the present base. Run it: "
            f"flowlab run --lever {lever} --seeds {seeds}"
        )
    verdict = found[0]
    if verdict.decision != "stack":
        owed = f" Owed: {verdict.owed} (flowlab run --owed)." if verdict.owed else ""
        raise NotStackedError(
            f"rule {rule.name!r} says {verdict.decision} of {lever!r}, not stack: {verdict.reason}.{owed}"
        )
    return verdict
