"""What runs of another tracker are in flowlab's words: levers, seeds, recipes, ids. Nothing here touches a file."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from flowlab.core.digest import digest_json
from flowlab.core.errors import LedgerError, unknown_name
from flowlab.interop.foreign import SEED, UNFINISHED, Foreign, ForeignRun, whole_number
from flowlab.study.study import CONTROL
from flowlab.study.template import kebab

CACHE = "imported"
SLUG_CHARS = 40


@dataclass(frozen=True)
class ImportedRun:
    """A run as it is going to be registered."""

    run_id: str
    lever: str
    seed: int
    replicate: int
    recipe: dict[str, Any]
    recipe_digest: str
    control_digest: str
    evaluation: dict[str, Any]
    changed_keys: list[str]
    origin: str
    foreign: ForeignRun


def name_runs(foreign: Foreign, control: str, ignore: Collection[str]) -> tuple[list[ImportedRun], list[str]]:
    """The runs to import, and what is worth knowing of how they were named and which were left out.

    `control` is the name (label) of the control's runs, `ignore` the params that are no part of a recipe. Raises
    UnknownNameError for a control that is not there, LedgerError if its runs differ in their params or would lose
    their seeds.
    """
    notes = list(foreign.notes)
    labelled = [run for run in foreign.runs if run.label]
    _note(notes, [run for run in foreign.runs if not run.label], "lack what --lever-from names, left out")
    levers = _levers([run.label or "" for run in labelled], control, notes)
    _require_known(labelled, ignore, foreign.seed_from)
    controls = [run for run in labelled if levers[run.label or ""] == CONTROL]
    _require_seeds_kept(controls, ignore, foreign.seed_from)
    recipes = {run.run_id: _recipe(run, {*ignore, foreign.seed_from}, foreign.are_recipes_known) for run in labelled}
    reference = _control_recipe(
        {run.name: recipes[run.run_id] for run in controls}, [recipes[run.run_id] for run in controls]
    )
    evaluation = {"imported": foreign.tool, "file": digest_json({"tool": foreign.tool} | foreign.identity)}
    seeds = _seeds([(run, levers[run.label or ""]) for run in labelled], foreign.seed_from, notes)
    replicates: Counter[tuple[str, int, str]] = Counter()
    named = []
    for run in labelled:
        lever, seed, recipe = levers[run.label or ""], seeds[run.run_id], recipes[run.run_id]
        digest = digest_json(recipe)
        replicate = replicates[lever, seed, digest]
        replicates[lever, seed, digest] += 1
        identity = digest_json({"tool": foreign.tool, "run": run.run_id} | foreign.identity)
        named.append(
            ImportedRun(
                run_id=f"imported-{_slug(run.name)}-{identity[:8]}",
                lever=lever,
                seed=seed,
                replicate=replicate,
                recipe=recipe,
                recipe_digest=digest,
                control_digest=digest_json(reference),
                evaluation=evaluation,
                changed_keys=_differing([reference, recipe]),
                origin=f"{foreign.tool}:{foreign.file_name}#{run.run_id}",
                foreign=run,
            )
        )
    kept = [run for run in named if run.foreign.status != UNFINISHED and run.foreign.keys]
    waiting = [run.foreign for run in named if run.foreign.status == UNFINISHED]
    _note(notes, waiting, "have not ended, left out (import again when they have)")
    mute = [run.foreign for run in named if run.foreign.status != UNFINISHED and not run.foreign.keys]
    _note(notes, mute, "have no metrics, left out")
    _note_recipes(kept, notes)
    return kept, notes


def _levers(labels: list[str], control: str, notes: list[str]) -> dict[str, str]:
    """The lever of each label, in small letters and hyphens."""
    distinct = list(dict.fromkeys(labels))
    if control not in distinct:
        same = [label for label in distinct if _lever(label) == control]
        if not same:
            raise unknown_name("control", control, distinct, "--control")
        control = same[0]
    levers = {label: CONTROL if _lever(label) == _lever(control) else _lever(label) for label in distinct}
    for label in distinct:
        if _lever(label) == CONTROL and _lever(control) != CONTROL:
            raise LedgerError(
                f"a run is named {label!r} and --control is {control!r}: flowlab calls the control {CONTROL!r}. Give "
                f"--control {label}, or rename those runs."
            )
    by_lever: dict[str, list[str]] = defaultdict(list)
    for label, lever in levers.items():
        by_lever[lever].append(label)
    for lever, several in by_lever.items():
        if len(several) > 1:
            notes.append(f"{', '.join(map(repr, several))} are all taken as {lever}")
    return levers


def _lever(label: str) -> str:
    """A name that a lever may have; for one that has no letter or digit of ours, one made from its digest."""
    return kebab(label) if re.search(r"[a-z0-9]", label.lower()) else f"lever-{digest_json(label)[:8]}"


def _slug(name: str) -> str:
    return _lever(name)[:SLUG_CHARS].strip("-")


def _recipe(run: ForeignRun, left_out: Collection[str], are_known: bool) -> dict[str, Any]:
    """The run's params but those. Where nobody wrote params down, its name is all that is known."""
    if not are_known:
        return {"imported.name": _lever(run.label or "")}
    return {key: _json(value) for key, value in run.params.items() if key not in left_out}


def _json(value: Any) -> Any:
    """A param as JSON can hold it: what it cannot (NaN, dates, decimals, bytes) as text."""
    if isinstance(value, dict):
        return {str(key): _json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _require_known(runs: list[ForeignRun], ignore: Collection[str], seed_from: str) -> None:
    known = {key for run in runs for key in run.params}
    for key in ignore:
        if key not in known:
            raise unknown_name("param", key, known, "--ignore")
    if seed_from != SEED and seed_from not in known:
        raise unknown_name("param", seed_from, known, "--seed-from")


def _require_seeds_kept(controls: list[ForeignRun], ignore: Collection[str], seed_from: str) -> None:
    """Raises LedgerError where what is ignored is the seed: runs would pair in the order in which they started."""
    if any(whole_number(run.params.get(seed_from)) is not None for run in controls):
        return
    for key in ignore:
        seeds = {whole_number(run.params.get(key)) for run in controls}
        if _sounds_like_seed(key) and len(seeds) > 1 and None not in seeds:
            raise LedgerError(
                f"--ignore {key} would throw the seeds away, and runs would pair by the order in which they started. "
                f"Pair them by it: --seed-from {key}"
            )


def _sounds_like_seed(key: str) -> bool:
    return "seed" in key.lower()


def _control_recipe(names: dict[str, dict], recipes: list[dict]) -> dict[str, Any]:
    """The one recipe that all runs of the control have."""
    differing = _differing(recipes)
    if differing:
        seeds = [key for key in differing if _sounds_like_seed(key)]
        is_seed = f"If {seeds[0]} is the seed: --seed-from {seeds[0]}. " if seeds else ""
        options = " ".join(f"--ignore {key}" for key in differing if key not in seeds)
        rest = f"If these say nothing of the recipe, leave them out: {options}" if options else ""
        raise LedgerError(
            f"the control's runs ({', '.join(names)}) differ in {', '.join(differing)}: they are of several recipes. "
            f"{is_seed}{rest}".rstrip()
        )
    return recipes[0]


def _differing(recipes: list[dict[str, Any]]) -> list[str]:
    """The keys that are not in all of these recipes with one value."""
    keys = sorted({key for recipe in recipes for key in recipe})
    return [key for key in keys if len({repr(recipe.get(key)) for recipe in recipes}) > 1]


def _seeds(runs: list[tuple[ForeignRun, str]], seed_from: str, notes: list[str]) -> dict[str, int]:
    """The seed of each run: its param, else 0, 1, 2, ... in each lever in the order of start."""
    seeds: dict[str, int] = {}
    counted: Counter[str] = Counter()
    for run, lever in runs:
        seed = whole_number(run.params.get(seed_from))
        if seed is None:
            seed = counted[lever]
            counted[lever] += 1
        seeds[run.run_id] = seed
    if counted:
        listed = ", ".join(f"{lever} ({count})" for lever, count in sorted(counted.items()))
        notes.append(f"without a seed that is a whole number, so numbered from 0 as they started: {listed}")
    return seeds


def _note(notes: list[str], runs: Iterable[ForeignRun], what: str) -> None:
    names = [run.name for run in runs]
    if names:
        notes.append(f"runs that {what}: {', '.join(names)}")


def _note_recipes(runs: list[ImportedRun], notes: list[str]) -> None:
    """Levers whose recipes do not say what they are."""
    digests: dict[str, set[str]] = defaultdict(set)
    recipes: dict[str, list[dict]] = defaultdict(list)
    for run in runs:
        digests[run.lever].add(run.recipe_digest)
        recipes[run.lever].append(run.recipe)
    for lever, found in digests.items():
        if len(found) > 1:
            keys = ", ".join(_differing(recipes[lever]))
            notes.append(f"{lever} has {len(found)} recipes, which count as {len(found)} levers: they differ in {keys}")
        elif lever != CONTROL and found & digests.get(CONTROL, set()):
            notes.append(f"{lever} has the params of the control: nothing written down tells them apart")
