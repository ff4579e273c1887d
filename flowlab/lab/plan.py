"""Which runs a comparison needs, and which of them the ledger lacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowlab.core.digest import digest_json
from flowlab.core.plugins import source_digest
from flowlab.study.recipe import Recipe
from flowlab.study.study import CONTROL, Study
from flowlab.train.cohort import Run
from flowlab.verdict.judge import OwedRun

TERMINAL = ("finished", "crashed")


@dataclass(frozen=True)
class Base:
    """What runs are compared on: the cache, the stats fitted on it, the validation drives."""

    cache_id: str
    stats_digest: str
    val_digest: str

    def recipe_digest(self, recipe: Recipe) -> str:
        """The name of `recipe` trained here; two runs with one digest and one seed are the same run."""
        plugins = {
            kind: digest
            for kind, name in (("objectives", recipe.objective.kind), ("decoders", recipe.decoder.kind))
            if (digest := source_digest(kind, name))
        }
        named = {"recipe": recipe.digest(self.cache_id), "stats": self.stats_digest}
        return digest_json(named | ({"plugins": plugins} if plugins else {}))

    def evaluation(self, recipe: Recipe) -> dict:
        """Everything that must agree before two numbers may be compared."""
        return {
            "cache_id": self.cache_id,
            "val_digest": self.val_digest,
            **recipe.evaluation.model_dump(mode="json"),
        }

    def evaluation_id(self, recipe: Recipe) -> str:
        return digest_json(self.evaluation(recipe))


@dataclass(frozen=True)
class PlannedRun:
    """A run, why it is wanted, and what the ledger has of it ("" for nothing)."""

    run: Run
    replicate: int
    why: str
    status: str

    @property
    def done(self) -> bool:
        return self.status in TERMINAL


def plan_runs(
    study: Study, base: Base, levers: Sequence[str], seeds: Sequence[int], statuses: Mapping[str, str], *, again: bool
) -> list[PlannedRun]:
    """The levers at `seeds`, the control at the same seeds, and the rest of the rule's panel, in that order of need.

    `statuses` maps run ids to their status in the ledger. With `again`, the levers' runs that are done are replicated.
    """
    wanted = [(lever, seed, "asked for") for lever in levers for seed in seeds]
    wanted += [(CONTROL, seed, f"pairs with {lever}") for lever in levers if lever != CONTROL for seed in seeds]
    wanted += [(CONTROL, seed, f"panel of rule {study.rule.name}") for seed in study.rule.panel_seeds]
    planned: dict[str, PlannedRun] = {}
    for name, seed, why in wanted:
        run_id = identify(study, base, name, seed)
        replicate = 0
        while again and why == "asked for" and statuses.get(replicate_id(run_id, replicate)) in TERMINAL:
            replicate += 1
        run_id = replicate_id(run_id, replicate)
        run = Run(run_id, name, seed, study.recipe(name))
        planned.setdefault(run_id, PlannedRun(run, replicate, why, statuses.get(run_id, "")))
    return list(planned.values())


def plan_owed(
    study: Study, base: Base, owed: Sequence[OwedRun], statuses: Mapping[str, str]
) -> tuple[list[PlannedRun], list[str]]:
    """The runs that rules want next, and a sentence for each that experiments.toml no longer describes."""
    planned: dict[str, PlannedRun] = {}
    unknown: list[str] = []
    for run in owed:
        known = run.lever == CONTROL or (run.lever in study.file.levers and run.lever not in study.stacked)
        if not known or base.recipe_digest(study.recipe(run.lever)) != run.recipe_digest:
            unknown.append(
                f"{run.lever}@{run.seed} is owed, and experiments.toml no longer has that recipe: it stays owed "
                f"until the lever is as it was."
            )
            continue
        run_id = identify(study, base, run.lever, run.seed)
        recipe = study.recipe(run.lever)
        planned.setdefault(
            run_id, PlannedRun(Run(run_id, run.lever, run.seed, recipe), 0, run.why, statuses.get(run_id, ""))
        )
    return list(planned.values()), unknown


def identify(study: Study, base: Base, lever: str, seed: int) -> str:
    """A readable run id that changes with all that makes another run, the control that it pairs with included."""
    recipes = [base.recipe_digest(study.recipe(lever)), base.recipe_digest(study.control)]
    digest = digest_json([study.name, lever, seed, *recipes])
    return f"{lever}-{seed}-{digest[:8]}"


def replicate_id(run_id: str, replicate: int) -> str:
    return f"{run_id}-again{replicate}" if replicate else run_id
