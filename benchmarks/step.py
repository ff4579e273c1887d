"""What does a training step cost, against the plain way, alone and in a cohort of four?

At three sizes: tiny, where launching operations is what costs, the demo's, and the published control's. A step of the
plain way is DataLoader, forward, backward, clipping, AdamW and schedule, with and without activation checkpointing of
each block; flowlab's is what `fit` does between two steps. The time is of one run: a cohort's step is a fourth of what
its program takes. In turns, a few steps each, the first one of a turn not counted (on a GPU those until the step is
recorded); one thread.

One command, 10 to 15 minutes on one core, nearly all of it the published size: `--sizes tiny demo` takes one minute.
"""

from collections.abc import Callable

import torch
from made import SIZES, Made, Size, cohort_of, ignore, make
from plain import PlainRun
from turns import Laps, Row, Times, Told, device, in_turns, options, turns_of

from flowlab.train.fit import Listener, fit
from flowlab.train.recorded import WARM_UP

STEPS = {"tiny": 40, "demo": 20, "published": 1}
"""That a turn counts."""
BEFORE = 1 if device().type == "cpu" else WARM_UP + 2
"""That a turn does not count: a GPU records the step first, in the one after those that warm up."""
TOGETHER = 4


def main() -> None:
    asked = options(__doc__.partition("\n")[0], list(SIZES)).parse_args()
    torch.set_num_threads(1)
    told = Told("step", asked, "ms a step and run", 1000)
    for name in asked.sizes:
        for row in measure(name, turns_of(asked)):
            told.row(row)
    told.end()


def measure(name: str, turns: int) -> list[Row]:
    """A run alone, and one of four together, against the plain way."""
    size, steps = SIZES[name], STEPS[name]
    made = make(size, size.recipe.train.batch * (steps + BEFORE + 1), device())
    taken = in_turns(
        {
            "checkpoints": plain_steps(size, made, steps, checkpoints=True),
            "plain": plain_steps(size, made, steps, checkpoints=False),
            "alone": flowlab_steps(size, made, steps, 1),
            "together": flowlab_steps(size, made, steps, TOGETHER),
        },
        turns,
        warm=False,  # the first step of a turn is not counted
    )
    plain, checkpoints = taken["plain"], taken["checkpoints"]
    return [
        Row("step, alone", name, taken["alone"], plain, checkpoints),
        Row(f"step, {TOGETHER} together", name, taken["together"], plain, checkpoints),
    ]


def plain_steps(size: Size, made: Made, steps: int, checkpoints: bool) -> Callable[[], Times]:
    """Goes on with one run, `steps` steps and those before that are not counted."""
    run = PlainRun(size.recipe, made.windows, 0, device(), checkpoints)

    def go_on() -> Times:
        laps = Laps(first=BEFORE, last=steps + BEFORE)
        for _ in range(steps + BEFORE):
            run.step()
            laps.lap()
        return laps.times()

    return go_on


def flowlab_steps(size: Size, made: Made, steps: int, num_runs: int) -> Callable[[], Times]:
    """Trains runs at seeds of their own, so that nothing is shared, for `steps` steps beside those not counted."""
    cohort = cohort_of(size.recipe, range(num_runs), steps + BEFORE)

    def train() -> Times:
        laps = Laps(first=BEFORE, last=steps + BEFORE)
        fit(cohort, made.data, made.validation, Listener(ignore, ignore, ignore, stepped=laps.lap))
        return laps.times(1 / num_runs)

    return train


if __name__ == "__main__":
    main()
