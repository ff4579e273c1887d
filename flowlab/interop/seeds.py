"""Which of a run's params is its seed. None is invented: a run whose seed nobody wrote down pairs with nothing."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
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
    return SEED in name.lower()


def seed_names(runs: Sequence[ForeignRun], asked: str | None, ignore: Collection[str]) -> list[str]:
    """The params that hold the seed of these runs; in a run that has several they agree. Empty if none does.

    `asked` is the one that the user names. Without, those that `is_seed` and vary over the runs; if none varies `seed`,
    else all. Raises LedgerError if two of them disagree, or if what is in `ignore` tells runs of one seed apart;
    UnknownNameError for an `asked` that no run has.
    """
    settings = [dict(flat(run.params)) for run in runs]
    known = dict.fromkeys(name for found in settings for name in found)
    if asked is not None:
        if asked not in known:
            raise unknown("param", asked, known, "--seed-from")
        return [asked]
    names = sorted({name for name in known if is_seed(name)}.difference(ignore), key=lambda name: (name != SEED, name))
    varying = [name for name in names if len(_numbers(settings, name)) > 1]
    chosen = varying or ([SEED] if SEED in names else names)
    for run, found in zip(runs, settings, strict=True):
        if len({seed_of(found, [name]) for name in chosen if name in found} - {None}) > 1:
            raise LedgerError(
                f"run {listed([run.name])} has several params that may be its seed, and they differ: {listed(chosen)}. "
                f"Say which one runs pair by: --seed-from {chosen[0]}"
            )
    _require_kept(settings, chosen, ignore)
    return chosen


def seed_of(settings: dict[str, Any], names: Sequence[str]) -> int | None:
    """The seed among these flat settings; None if none of them is a whole number."""
    return next((seed for name in names if (seed := whole_number(settings.get(name))) is not None), None)


def _numbers(settings: Sequence[dict[str, Any]], name: str) -> set[int]:
    return {number for found in settings if (number := whole_number(found.get(name))) is not None}


def _require_kept(settings: Sequence[dict[str, Any]], chosen: Sequence[str], ignore: Collection[str]) -> None:
    """Raises LedgerError where what is ignored is the seed: it differs among runs that are otherwise of one seed."""
    for key in filter(sounds_like_seed, ignore):
        by_seed = defaultdict(set)
        for found in settings:
            by_seed[seed_of(found, chosen)].add(whole_number(found.get(key)))
        if any(len(numbers - {None}) > 1 for numbers in by_seed.values()):
            names = " or ".join(f"--seed-from {name}" for name in (key, *chosen))
            raise LedgerError(
                f"--ignore {key} would throw the seeds away, by which runs pair: it differs between runs of one lever. "
                f"Say which param is the seed: {names}"
            )
