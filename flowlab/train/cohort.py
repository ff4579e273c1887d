"""A cohort: runs of one shape signature that train together in one program."""

from collections.abc import Sequence
from dataclasses import dataclass

from flowlab.core.digest import canonical_json
from flowlab.study.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """One recipe at one seed."""

    run_id: str
    lever: str
    seed: int
    recipe: Recipe


@dataclass(frozen=True)
class Cohort:
    """R runs whose programs have one shape, in a fixed order: the run axis of every tensor."""

    runs: tuple[Run, ...]

    @property
    def size(self) -> int:
        return len(self.runs)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The distinct seeds, in order of first use: the axis of everything that runs of one seed share."""
        return tuple(dict.fromkeys(run.seed for run in self.runs))

    @property
    def seed_index(self) -> list[int]:
        """For each run, the position of its seed in `seeds`."""
        return [self.seeds.index(run.seed) for run in self.runs]

    @property
    def shape(self) -> Recipe:
        """A recipe that stands for what all runs share: architecture, batch, number of steps."""
        return self.runs[0].recipe


def shape_signature(recipe: Recipe) -> tuple:
    """What must agree for two runs to train as one program. Everything else is per-run data."""
    objective, train = recipe.objective, recipe.train
    return (
        (objective.kind, canonical_json(objective.options), objective.lds.edges),
        canonical_json(recipe.decoder.model_dump(mode="json", exclude={"dropout"})),
        (train.arithmetic, train.batch, train.steps, train.shuffle, train.sample_every, train.keep_every),
        recipe.action_space,
        recipe.evaluation,
    )


def group_into_cohorts(runs: Sequence[Run], largest: int) -> list[Cohort]:
    """Runs of one shape together, `largest` at most, in the order given."""
    by_shape: dict[tuple, list[Run]] = {}
    for run in runs:
        by_shape.setdefault(shape_signature(run.recipe), []).append(run)
    return [
        Cohort(tuple(group[first : first + largest]))
        for group in by_shape.values()
        for first in range(0, len(group), largest)
    ]
