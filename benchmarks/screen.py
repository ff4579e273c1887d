"""What does a whole run cost, trained and evaluated, against the plain way?

As `flowlab run` does it for one run: training, the error on the validation frames, K draws of each of them, every
metric row. The plain way trains, asks for the same error, draws and takes the error of the draws' mean. At the
published size steps and frames are cut in one proportion: 3,500 steps of batch 1,024 to 15,000 frames of K = 32 by
heun/32 are 7 to 30. At the demo's, 600 steps of batch 128 to 1,317 frames of K = 16 by heun/4 are cut to a fifth. What
a run has once (starting, reading the cache) is not in it: campaign.py has that.

One command, 20 to 30 minutes on one core, nearly all of it the published size: `--sizes demo` takes some five.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from made import RAW_CHANNELS, SIZES, Made, Size, cohort_of, ignore, make
from plain_run import Held, plain_screen
from turns import Row, Told, device, in_turns, options, turns_of

from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.draw_bank import BankWriter
from flowlab.evaluate.draws import draw_shape
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.scorer import Scorer
from flowlab.train.fit import Listener, fit

HISTORY = 6


@dataclass(frozen=True)
class Cut:
    """How much of a run is done."""

    steps: int
    frames: int
    told: str


CUTS = {
    "demo": Cut(120, 263, "120 steps and 263 frames: a fifth of 600 and 1,317"),
    "published": Cut(7, 30, "7 steps and 30 frames: 1/500 of 3,500 and 15,000"),
}


def main() -> None:
    asked = options(__doc__.partition("\n")[0], list(CUTS)).parse_args()
    torch.set_num_threads(1)
    told = Told("screen", asked, "s a run that is cut as told below", 1)
    for name in asked.sizes:
        told.row(measure(name, turns_of(asked)))
    told.end()


def measure(name: str, turns: int) -> Row:
    """Both ways at one size. What torch does once in a process is done before, in a run of one step."""
    size, cut = SIZES[name], CUTS[name]
    num_windows = max(4096, size.recipe.train.batch * 2) + cut.frames
    made = make(size, num_windows, device(), cut.frames)
    for way in ways(size, make(size, 2048, device(), 2), Cut(1, 2, "")).values():
        way()
    taken = in_turns(ways(size, made, cut), turns, warm=False)
    return Row("screen of one run", name, taken["flowlab"], taken["plain"], taken["checkpoints"], cut.told)


def ways(size: Size, made: Made, cut: Cut) -> dict[str, Callable[[], object]]:
    """How a run is trained and evaluated."""
    recipe = cohort_of(size.recipe, range(1), cut.steps).shape
    plain = (recipe, made.windows, held_of(made), made.space, 0, device())
    return {
        "checkpoints": lambda: plain_screen(*plain, checkpoints=True),
        "plain": lambda: plain_screen(*plain, checkpoints=False),
        "flowlab": lambda: flowlab_screen(size, made, cut),
    }


def flowlab_screen(size: Size, made: Made, cut: Cut) -> object:
    """Train, validate each epoch, draw into a bank on disk, score: what lab/run.py calls, without its other files."""
    cohort = cohort_of(size.recipe, range(1), cut.steps)
    trained = fit(cohort, made.data, made.validation, Listener(ignore, ignore, ignore))
    frames = frames_of(made, cut.frames)
    definitions = define_metrics(None, RAW_CHANNELS, dict.fromkeys(RAW_CHANNELS, 0.3))
    scorer = Scorer(frames, definitions, made.space, size.recipe.evaluation)
    shape = draw_shape(trained.objective, trained.decoder, scorer.settings)
    with TemporaryDirectory() as folder, BankWriter(Path(folder) / "draws.zarr", frames, shape) as bank:
        scorer.draw(trained.objective, trained.decoder, {0: bank})
        return scorer.rows(scorer.raw(bank.draws))


def held_of(made: Made) -> Held:
    """The same validation frames, noise and flow times for the plain way."""
    own = made.validation
    raw = made.raw[: len(own.action)]
    return Held(own.condition, own.action, raw, own.noise, (own.time, torch.sigmoid(own.time_normal)))


def frames_of(made: Made, num: int) -> ValidationFrames:
    """The first windows as frames of one drive."""
    index = np.arange(num)[:, None] + np.arange(1 - HISTORY, 1) + HISTORY
    return ValidationFrames(
        channels=RAW_CHANNELS,
        truth=made.raw[:num].cpu().numpy(),
        drive=np.zeros(num, np.int64),
        drive_ids=("drive_00",),
        frame_index=index,
        time_us=index * 100_000,
        history_action=np.zeros((num, HISTORY, len(RAW_CHANNELS)), np.float32),
        speed_mps=np.ones((num, HISTORY), np.float32),
        waypoints=None,
        condition=made.validation.condition,
    )


if __name__ == "__main__":
    main()
