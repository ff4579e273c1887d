"""What runs of another tracker are in flowlab's words: levers, seeds, recipes, ids. Nothing here touches a file."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from flowlab.core.digest import digest_json
from flowlab.core.errors import LedgerError
from flowlab.interop.cells import SHOWN_NAMES, listed, shown
from flowlab.interop.faults import unknown
from flowlab.interop.foreign import UNFINISHED, Foreign, ForeignRun, flat
from flowlab.interop.seeds import require_kept, seed_of, seed_params, seedless_notes, sounds_like_seed
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
    if not foreign.runs:
        raise LedgerError(f"{foreign.file_name} holds no runs that can be read: there is nothing to import.")
    labelled = [run for run in foreign.runs if run.label]
    _note(notes, [run for run in foreign.runs if not run.label], "lack what --lever-from names, left out")
    names = _names([run.label or "" for run in labelled])
    if control in foreign.parents and control not in names:
        raise LedgerError(
            f"--control {listed([control])} is a parent of nested runs, which is left out. Name the runs nested in it, "
            f"or by --lever-from what tells them from others. Runs are called: {listed(names)}."
        )
    levers = _levers(names, control, notes)
    _require_known(labelled, ignore)
    asked = foreign.seed_from
    seeds = seed_params(labelled, asked)
    require_kept(labelled, asked, ignore)
    notes += seedless_notes(labelled, asked, levers)
    recipes = {
        run.run_id: _settings(run.params, {*ignore, *seeds})
        if foreign.are_recipes_known
        else {"imported.name": names[run.label or ""]}
        for run in labelled
    }
    controls = [run for run in labelled if levers[run.label or ""] == CONTROL]
    reference = _control_recipe([run.name for run in controls], [recipes[run.run_id] for run in controls], asked)
    evaluation = {"imported": foreign.tool, "file": digest_json({"tool": foreign.tool} | foreign.identity)}
    replicates: Counter[tuple[str, int, str]] = Counter()
    named: list[ImportedRun] = []
    run_ids: set[str] = set()
    for run in labelled:
        lever, recipe = levers[run.label or ""], recipes[run.run_id]
        whose = {"tool": foreign.tool, "run": run.run_id} | foreign.identity
        digest, identity = digest_json(recipe), digest_json(whose)
        run_id = f"imported-{_slug(run.name)}-{identity[:8]}"
        run_id = f"{run_id}{identity[8:24]}" if run_id in run_ids else run_id
        run_ids.add(run_id)
        seed = seed_of(run, asked)
        seed = _own_number(identity) if seed is None else seed
        replicate = replicates[lever, seed, digest]
        replicates[lever, seed, digest] += 1
        named.append(
            ImportedRun(
                run_id=run_id,
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
    _note_replicates(kept, notes)
    return kept, notes


def _names(labels: list[str]) -> dict[str, str]:
    """The name of each label in small letters and hyphens.

    Labels that differ in capitals, spaces, hyphens and underscores alone have one; two others never have.
    """
    meant = {label: re.sub(r"[\s_-]+", "-", label.strip().casefold()) for label in dict.fromkeys(labels)}
    by_name: dict[str, set[str]] = defaultdict(set)
    for label, meaning in meant.items():
        by_name[_lever(label)].add(meaning)
    return {
        label: name if len(by_name[name := _lever(label)]) == 1 else f"{name[:50]}-{digest_json(meaning)[:8]}"
        for label, meaning in meant.items()
    }


def _levers(names: dict[str, str], control: str, notes: list[str]) -> dict[str, str]:
    """The lever of each label."""
    if control not in names:
        same = [label for label, name in names.items() if name == control]
        if not same:
            raise unknown("control", control, names, "--control")
        control = same[0]
    levers = {label: CONTROL if name == names[control] else name for label, name in names.items()}
    for label, name in names.items():
        if name == CONTROL != names[control]:
            raise LedgerError(
                f"a run is named {shown(label)} and --control is {shown(control)}: flowlab calls the control "
                f"{CONTROL!r}. Give --control {listed([label])}, or rename those runs."
            )
    by_lever: dict[str, list[str]] = defaultdict(list)
    for label, lever in levers.items():
        by_lever[lever].append(label)
    notes += [
        f"{listed(map(repr, several))} are all taken as {lever}"
        for lever, several in by_lever.items()
        if len(several) > 1
    ]
    return levers


def _lever(label: str) -> str:
    """A name that a lever may have; for one that has no letter or digit of ours, one made from its digest."""
    return kebab(label) if re.search(r"[a-z0-9]", label.lower()) else f"lever-{digest_json(label)[:8]}"


def _slug(name: str) -> str:
    return _lever(name)[:SLUG_CHARS].strip("-")


def _settings(params: dict[str, Any], left_out: Collection[str], above: str = "") -> dict[str, Any]:
    """The params but those, by name or, within another, by the names of both."""
    return {
        key: _settings(value, left_out, f"{above}{key}.") if isinstance(value, dict) else _json(value)
        for key, value in params.items()
        if f"{above}{key}" not in left_out
    }


def _json(value: Any) -> Any:
    """A param as JSON can hold it: what it cannot (NaN, dates, decimals, bytes) as text."""
    if isinstance(value, dict):
        return {str(key): _json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _require_known(runs: list[ForeignRun], ignore: Collection[str]) -> None:
    known = {key for run in runs for key in (*run.params, *dict(flat(run.params)))}
    for key in ignore:
        if key not in known:
            raise unknown("param", key, known, "--ignore")


def _own_number(identity: str) -> int:
    """What stands for the seed of a run that has none: a number below 0 that no other run has, so that none pairs."""
    return -1 - int(identity[:13], 16)


def _control_recipe(names: list[str], recipes: list[dict], asked: str | None) -> dict[str, Any]:
    """The one recipe that all runs of the control have."""
    differing = _differing([dict(flat(recipe)) for recipe in recipes])
    if differing:
        seeds = [key for key in differing if sounds_like_seed(key) and asked is None]
        is_seed = f"If {listed(seeds[:1])} is the seed: --seed-from {listed(seeds[:1])}. " if seeds else ""
        options = " ".join(f"--ignore {listed([key])}" for key in differing[:SHOWN_NAMES])
        raise LedgerError(
            f"the control's runs ({listed(dict.fromkeys(names))}) differ in {listed(differing)}: they are of several "
            f"recipes. {is_seed}If these say nothing of the recipe, leave them out: {options}"
        )
    return recipes[0]


def _differing(recipes: list[dict[str, Any]]) -> list[str]:
    """The keys that are not in all of these recipes with one value."""
    keys = sorted({key for recipe in recipes for key in recipe})
    return [key for key in keys if len({repr(recipe.get(key)) for recipe in recipes}) > 1]


def _note(notes: list[str], runs: Iterable[ForeignRun], what: str) -> None:
    names = [run.name for run in runs]
    if names:
        notes.append(f"runs that {what}: {listed(names)}")


def _note_recipes(runs: list[ImportedRun], notes: list[str]) -> None:
    """Levers whose recipes do not say what they are."""
    digests: dict[str, set[str]] = defaultdict(set)
    recipes: dict[str, list[dict]] = defaultdict(list)
    for run in runs:
        digests[run.lever].add(run.recipe_digest)
        recipes[run.lever].append(run.recipe)
    for lever, found in digests.items():
        if len(found) > 1:
            keys = listed(_differing(recipes[lever]))
            notes.append(f"{lever} has {len(found)} recipes, which count as {len(found)} levers: they differ in {keys}")
        elif lever != CONTROL and found & digests.get(CONTROL, set()):
            notes.append(f"{lever} has the params of the control: nothing written down tells them apart")


def _note_replicates(runs: list[ImportedRun], notes: list[str]) -> None:
    """Runs that one seed cannot tell apart."""
    counts = Counter((run.lever, run.recipe_digest, run.seed) for run in runs)
    several = [f"{lever}@{seed} ({count})" for (lever, _, seed), count in counts.items() if count > 1]
    if several:
        notes.append(f"runs of one lever, recipe and seed, of which the first to start counts alone: {listed(several)}")
