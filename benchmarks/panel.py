"""What does evaluating a policy cost, against the plain way?

A panel is K = 32 draws of a frame. The plain way carries each draw as a row of its own, with the condition repeated
beside it and projected anew at each of heun/32's 64 evaluations of the decoder; flowlab does as a run's evaluation
does. The draws are the same but for rounding: the largest |difference| in model space is told.

`ab2` asks the decoder once a step. Its steps are searched for: the fewest whose draws are, in the mean, as near to
those of heun/128 as those of heun/32 are, on frames that were not trained on. That needs weights that were trained, as
random ones have other paths: a decoder of the demo's size is trained first, for `--steps` steps (a fifth with --quick)
on made chunks of two modes. The published decoder gets a few steps, so only its times count.

One command, some 6 minutes on one core; `--sizes demo` some 2. One thread.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from made import SIZES, make, plain_of, train
from plain import sample
from torch import Tensor
from turns import Row, Told, device, in_turns, options, turns_of

from flowlab.evaluate.draws import sample_frames
from flowlab.study.recipe import EvaluationSettings
from flowlab.train.fit import Trained

DRAWS, SOLVER, SOLVER_STEPS, REFERENCE_STEPS = 32, "heun", 32, 128
NUM_FRAMES = 8  # that are timed, in one call of either way
NUM_SEARCHED = 48  # frames that the steps of ab2 are searched on
PUBLISHED_TRAIN_STEPS = 2
MOST_AB2 = 128


def main() -> None:
    parser = options(__doc__.partition("\n")[0], ["demo", "published"])
    parser.add_argument("--steps", type=int, default=300, help="that the decoder of the demo's size is trained")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    told = Told("panel", asked, f"s for {NUM_FRAMES} frames x {DRAWS} draws", 1)
    found = None
    for name in asked.sizes:
        found = measure(
            told, name, steps_of(asked) if name == "demo" else PUBLISHED_TRAIN_STEPS, turns_of(asked), found
        )
    told.end()


def steps_of(asked: argparse.Namespace) -> int:
    """That the decoder of the demo's size is trained."""
    return max(1, asked.steps // 5) if asked.quick else int(asked.steps)


def measure(told: Told, name: str, train_steps: int, turns: int, searched: tuple[int, str] | None) -> tuple[int, str]:
    """Rows of one size. Returns the steps of ab2 and what was said of them, to be taken over by the next size."""
    size = SIZES[name]
    made = make(size, size.recipe.train.batch * (train_steps + 1) if name == "published" else 4096, device())
    trained = train(size, made, train_steps)
    plain = plain_of(trained, size, made)
    fresh = torch.Generator().manual_seed(1)
    condition = torch.randn(NUM_SEARCHED, *made.data.condition.shape[1:], generator=fresh).to(device())
    noise = torch.randn(NUM_SEARCHED, DRAWS, *made.data.action.shape[1:], generator=fresh).to(device())
    steps, note = searched or fewest_ab2(trained, condition, noise)
    few = condition[:NUM_FRAMES], noise[:NUM_FRAMES]
    ours = partial(flowlab_draws, trained, *few)
    ways: dict[str, Callable[[], Tensor]] = {
        "plain": partial(sample, plain, *few, SOLVER, SOLVER_STEPS),
        "flowlab": partial(ours, SOLVER, SOLVER_STEPS),
        "ab2": partial(ours, "ab2", steps),
    }
    difference = float((ways["plain"]() - ways["flowlab"]()).abs().max())
    taken = in_turns(ways, turns, warm=False)  # the comparison was the warm-up
    told.row(
        Row(
            f"panel {SOLVER}/{SOLVER_STEPS}",
            name,
            taken["flowlab"],
            taken["plain"],
            note=f"largest |difference| of the draws {difference:.1e}",
        )
    )
    whose = note if searched is None else f"{note} (steps and distances as found at the size before)"
    told.row(Row(f"panel ab2/{steps}", name, taken["ab2"], taken["plain"], note=whose))
    return steps, note


def flowlab_draws(trained: Trained, condition: Tensor, noise: Tensor, solver: str, num_steps: int) -> Tensor:
    """Draws (N, K, H, M) as a run's evaluation makes them."""
    how = EvaluationSettings(draws=noise.shape[1], solver=solver, solver_steps=num_steps)
    return sample_frames(trained.objective, trained.decoder, condition, noise, how)[0]


def fewest_ab2(trained: Trained, condition: Tensor, noise: Tensor) -> tuple[int, str]:
    """The fewest steps of ab2 that are as near to heun/128 as heun/32 is, by bisection; and the figures in words."""
    draws = partial(flowlab_draws, trained, condition, noise)
    reference = draws(SOLVER, REFERENCE_STEPS)

    def distance(solver: str, steps: int) -> float:
        return float((draws(solver, steps) - reference).abs().mean())

    asked = distance(SOLVER, SOLVER_STEPS)
    too_few, enough = 1, MOST_AB2  # taken to be enough; the note tells whether it is
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if distance("ab2", middle) <= asked:
            enough = middle
        else:
            too_few = middle
    note = (
        f"{enough + 1} evaluations, mean |difference| from {SOLVER}/{REFERENCE_STEPS} {distance('ab2', enough):.1e};"
        f" {SOLVER}/{SOLVER_STEPS}: {2 * SOLVER_STEPS}, {asked:.1e}"
    )
    return enough, note


if __name__ == "__main__":
    main()
