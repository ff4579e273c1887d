"""Which runs a comparison needs, and which of them the ledger lacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowlab.core.digest import digest_json
from flowlab.core.vocabulary import CONTROL
from flowlab.lab.ground import Base, Ground
from flowlab.lab.registered import read_registered
from flowlab.study.study import Study
from flowlab.train.cohort import Run
from flowlab.verdict.judge import OwedRun

TERMINAL = ("finished", "crashed")


@dataclass(frozen=True)
class PlannedRun:
    """A run, why it is wanted, and what the ledger has of it ("" for nothing).

    One with a `purpose` of its own (core.vocabulary) is recorded, and never judged.
    """

    run: Run
    replicate: int
    why: str
    status: str
    purpose: str | None = None

    @property
    def done(self) -> bool:
        return self.status in TERMINAL


def plan_runs(
    study: Study,
    ground: Ground,
    levers: Sequence[str],
    seeds: Sequence[int],
    statuses: Mapping[str, str],
    *,
    again: bool,
) -> list[PlannedRun]:
    """The levers at `seeds`, the control at the same seeds, and the rest of the rule's panel, in that order of need.

    `statuses` maps run ids to their status in the ledger. With `again`, the levers' runs that are done are replicated.
    """
    wanted = [(lever, seed, "asked for") for lever in levers for seed in seeds]
    wanted += [(CONTROL, seed, f"pairs with {lever}") for lever in levers if lever != CONTROL for seed in seeds]
    wanted += [(CONTROL, seed, f"panel of rule {study.rule.name}") for seed in study.rule.panel_seeds]
    planned: dict[str, PlannedRun] = {}
    for name, seed, why in wanted:
        run_id = identify(study, ground, name, seed)
        replicate = 0
        while again and why == "asked for" and statuses.get(replicate_id(run_id, replicate)) in TERMINAL:
            replicate += 1
        run_id = replicate_id(run_id, replicate)
        run = Run(run_id, name, seed, study.recipe(name))
        planned.setdefault(run_id, PlannedRun(run, replicate, why, statuses.get(run_id, "")))
    return list(planned.values())


def plan_controls(study: Study, ground: Ground, seeds: Sequence[int], statuses: Mapping[str, str]) -> list[PlannedRun]:
    """The control at `seeds`, before anything else of a study is trained: they tell sigma, and make the panel."""
    why = f"calibrates rule {study.rule.name}"
    ids = {identify(study, ground, CONTROL, seed): seed for seed in seeds}
    return [
        PlannedRun(Run(run_id, CONTROL, seed, study.control), 0, why, statuses.get(run_id, ""))
        for run_id, seed in ids.items()
    ]


def levers_owed(study: Study, owed: Sequence[OwedRun]) -> tuple[str, ...]:
    """The levers among what is owed that experiments.toml still has."""
    return tuple(dict.fromkeys(run.lever for run in owed if run.lever in study.open_levers))


def plan_owed(
    study: Study, ground: Ground, owed: Sequence[OwedRun], statuses: Mapping[str, str]
) -> tuple[list[PlannedRun], list[str]]:
    """The runs that rules want next, and a sentence for each that experiments.toml no longer describes."""
    planned: dict[str, PlannedRun] = {}
    unknown: list[str] = []
    for run in owed:
        known = run.lever in ground.supplies
        if not known or ground.recipe_digest(run.lever, study.recipe(run.lever)) != run.recipe_digest:
            unknown.append(
                f"{run.lever}@{run.seed} is owed, and experiments.toml no longer has that recipe: it stays owed "
                f"until the lever is as it was."
            )
            continue
        run_id = identify(study, ground, run.lever, run.seed)
        recipe = study.recipe(run.lever)
        planned.setdefault(
            run_id, PlannedRun(Run(run_id, run.lever, run.seed, recipe), 0, run.why, statuses.get(run_id, ""))
        )
    return list(planned.values()), unknown


def identify(study: Study, ground: Ground, lever: str, seed: int, purpose: str | None = None) -> str:
    """A readable run id that changes with all that makes another run, the control that it pairs with included."""
    recipe_digest = ground.recipe_digest(lever, study.recipe(lever))
    return name_run(study.runs, study.name, lever, seed, recipe_digest, ground.base, purpose)


def name_run(
    runs_dir: Path, study: str, lever: str, seed: int, recipe_digest: str, base: Base, purpose: str | None = None
) -> str:
    """The id of the run of that recipe at that seed on that base.

    The recipe says how draws are made. Where only what is made of them differs (slices, frames, selection), so that a
    run of this id was evaluated otherwise, the evaluation is part of the id.
    """
    digest = digest_json([study, lever, seed, recipe_digest, base.control_digest, *([purpose] if purpose else [])])
    run_id = f"{lever}-{seed}-{digest[:8]}"
    record = read_registered(runs_dir / run_id)
    is_other = record is not None and record.get("evaluation_id") != base.evaluation_id
    return f"{run_id}-{base.evaluation_id[:8]}" if is_other else run_id


def replicate_id(run_id: str, replicate: int) -> str:
    return f"{run_id}-again{replicate}" if replicate else run_id
