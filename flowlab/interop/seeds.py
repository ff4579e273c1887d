"""Which of a run's params is its seed: the one that somebody names. A name proves nothing, so none is taken unasked.

A param `seed` may be that of the data, or a default that the trainer logs and never uses; runs would then pair by it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flowlab.core.errors import LedgerError
from flowlab.interop.cells import listed, whole_number
from flowlab.interop.faults import unknown
from flowlab.interop.foreign import ForeignRun, flat

SEED = "seed"
SEEDS = {SEED, "randomseed", "rngseed", "globalseed", "manualseed"}
BESIDE = {"random", "rng", "global", "manual", "everything", "base", "main", "torch", "pytorch", "numpy", "np"} | {
    "train", "training", "trainer", "run", "experiment", "exp", "cfg", "config", "conf", "settings", "setup", "args",
    "hparams", "hyperparameters", "params", "parameters", "general", "common",
}  # fmt: skip


def is_seed(name: str) -> bool:
    """Whether a param of that name is the seed of a whole run: `seed`, random_seed, cfg/seed, training.seed, ...

    Not where another word says what else it seeds (data_seed, split.seed).
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W_a-zA-Z]+", name)]
    if words[-2:] == ["random", "state"]:
        words[-2:] = [SEED]
    return not SEEDS.isdisjoint(words) and BESIDE.union(SEEDS).issuperset(words)


def sounds_like_seed(name: str) -> bool:
    return SEED in name.lower() or is_seed(name)


def seed_params(runs: Sequence[ForeignRun], asked: str | None) -> list[str]:
    """The params that are no part of a recipe: `asked`, and others that look like a seed and agree with it in each run.

    Where nobody asks, all that look like it: which of them it is nobody knows, and two seeds are no two recipes. Raises
    UnknownNameError for an `asked` that no run has.
    """
    settings = _settings(runs)
    known = dict.fromkeys(name for found in settings for name in found)
    names = filter(is_seed, known)
    if asked is None:
        return list(names)
    if asked not in known:
        raise unknown("param", asked, known, "--seed-from")
    return [asked, *(name for name in names if name != asked and all(_agree(found, name, asked) for found in settings))]


def seed_of(run: ForeignRun, asked: str | None) -> int | None:
    """The whole number that the run's param `asked` is; None if it is none, or nobody asks."""
    return None if asked is None else whole_number(dict(flat(run.params)).get(asked))


def seedless_notes(runs: Sequence[ForeignRun], asked: str | None, levers: Mapping[str, str]) -> list[str]:
    """A note that counts runs without a seed by lever (`levers`: that of each label), and tells what may hold it."""
    without = Counter(levers[run.label or ""] for run in runs if seed_of(run, asked) is None)
    if not without:
        return []
    told = listed(f"{lever} ({count})" for lever, count in sorted(without.items()))
    what = "no --seed-from says which param is the seed" if asked is None else f"no whole number in {listed([asked])}"
    like = [name for name in _seed_like(runs) if name != asked]
    advice = "Nothing else looks like a seed" if asked else "Nothing looks like one: write it down and name it"
    if like:
        advice = f"These look like seeds: {listed(like)}. If one is: --seed-from {listed(like[:1])}, into another study"
    return [f"{what}, so these runs pair with nothing and stand under a number below 0: {told}. {advice}"]


def require_kept(runs: Sequence[ForeignRun], asked: str | None, ignore: Collection[str]) -> None:
    """Raises LedgerError if what is ignored tells runs of one seed apart: which of them pair would be a guess."""
    numbers = [seed_of(run, asked) for run in runs]
    values: dict[tuple[str, int], set[str]] = defaultdict(set)
    for seed, found in zip(numbers, _settings(runs), strict=True):
        for name in filter(sounds_like_seed, found):
            if seed is not None and any(name == key or name.startswith(f"{key}.") for key in ignore):
                values[name, seed].add(str(found[name]))
    for (name, seed), several in values.items():
        if len(several) > 1 and name != asked:
            raise LedgerError(
                f"--ignore would throw {listed([name])} away, in which runs differ whose {listed([asked or ''])} is "
                f"{seed}: nothing else says which of them pair. If it is the seed: --seed-from {listed([name])}; if "
                f"neither is, give no --seed-from."
            )


def _settings(runs: Sequence[ForeignRun]) -> list[dict[str, Any]]:
    """The params of each run; one within another has the names of both."""
    return [dict(flat(run.params)) for run in runs]


def _seed_like(runs: Sequence[ForeignRun]) -> list[str]:
    """The params whose names speak of a seed: first those that look like a whole run's, of these those that vary."""
    values: dict[str, set[str]] = defaultdict(set)
    for found in _settings(runs):
        for name in filter(sounds_like_seed, found):
            values[name].add(str(found[name]))
    return sorted(values, key=lambda name: (not is_seed(name), len(values[name]) < 2, name != SEED, name))


def _agree(found: dict[str, Any], name: str, asked: str) -> bool:
    """Whether these settings have no `name`, or one whole number under both."""
    number = whole_number(found.get(name))
    return name not in found or (number is not None and number == whole_number(found.get(asked)))
