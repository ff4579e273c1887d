"""What does it cost to hand four runs their batches, against four DataLoaders?

Four runs of one seed, as levers are trained beside their control: the same windows, noise and flow times for all.
flowlab's `Batches.at` reads each batch once for all four, from conditions in memory, and makes float32 of it; the
plain way has a DataLoader for each run, over the same fp16 conditions in memory, and draws noise and flow times itself.
One step of each of the four is one unit. In turns, one thread. One command, half a minute.
"""

from collections.abc import Callable, Iterator

import torch
from made import SIZES, Made, Size, cohort_of, make
from plain import loader
from torch import Tensor
from turns import Row, Times, Told, device, in_turns, options, timed, turns_of

from flowlab.train.cohort import Cohort, Run
from flowlab.train.data import Batches

STEPS = {"tiny": 50, "demo": 20, "published": 5}
NUM_RUNS = 4
NUM_BATCHES = 8  # that an epoch has


def main() -> None:
    asked = options(__doc__.partition("\n")[0], list(SIZES)).parse_args()
    torch.set_num_threads(1)
    told = Told("data", asked, f"ms for the batches of {NUM_RUNS} runs", 1000)
    for name in asked.sizes:
        told.row(measure(name, turns_of(asked)))
    told.end()


def measure(name: str, turns: int) -> Row:
    """Both ways at one size."""
    size, steps = SIZES[name], STEPS[name]
    made = make(size, size.recipe.train.batch * NUM_BATCHES, device())
    ways = {"plain": plain_batches(size, made, steps), "flowlab": flowlab_batches(size, made, steps)}
    taken = in_turns(ways, turns)
    return Row(f"batches of {NUM_RUNS} runs", name, taken["flowlab"], taken["plain"])


def flowlab_batches(size: Size, made: Made, steps: int) -> Callable[[], Times]:
    """Goes on through the epochs of four runs of one seed."""
    (one,) = cohort_of(size.recipe, range(1), steps).runs
    runs = tuple(Run(f"run-{number}", "control", one.seed, one.recipe) for number in range(NUM_RUNS))
    batches = Batches(Cohort(runs), made.data)
    at = 0

    def serve() -> None:
        nonlocal at
        for _ in range(steps):
            batches.at(at)
            at += 1

    return lambda: share(serve, steps)


def plain_batches(size: Size, made: Made, steps: int) -> Callable[[], Times]:
    """Goes on through the epochs of four runs, each with a DataLoader of its own."""
    loaders = [without_end(size, made) for _ in range(NUM_RUNS)]

    def serve() -> None:
        for _ in range(steps):
            for own in loaders:
                condition, action, weight = (part.to(device()) for part in next(own))
                condition.float(), torch.randn_like(action), torch.randn(len(weight), device=device())

    return lambda: share(serve, steps)


def without_end(size: Size, made: Made) -> Iterator[list[Tensor]]:
    """Batches, epoch after epoch."""
    own = loader(made.windows, size.recipe.train.batch, 0)
    while True:
        yield from own


def share(work: Callable[[], None], steps: int) -> Times:
    """The time of one of so many steps."""
    taken = timed(work)
    return Times([taken.wall / steps], [taken.processor / steps])


if __name__ == "__main__":
    main()
