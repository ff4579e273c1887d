"""Does training as one cohort pay? R runs as one program against the same R runs one after the other, on one thread.

Prints a table and writes benchmarks/results/cohort.json. The data are random numbers of the demo's shapes.
"""

import json
import time
from pathlib import Path

import torch

from flowlab.policy.action_space import fit_action_space
from flowlab.policy.weights import fit_label_density
from flowlab.study.recipe import DecoderSettings, Recipe, TrainSettings
from flowlab.train.cohort import Cohort, Run
from flowlab.train.data import train_data
from flowlab.train.fit import Listener, fit
from flowlab.train.validate import validation_data

NUM_RUNS = 4
NUM_STEPS = 30
SHAPES = {"tiny (width 16, batch 16)": (16, 1, 16), "demo (width 64, batch 128)": (64, 3, 128)}
REPEATS = 3


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, 1 thread"
    results = [measure(label, *shape, device) for label, shape in SHAPES.items()]
    print(f"{NUM_RUNS} runs, {NUM_STEPS} steps, on {name}")
    print(f"{'shape':<30} {'solo s':>8} {'cohort s':>9} {'ratio':>6}")
    for row in results:
        print(f"{row['shape']:<30} {row['solo_s']:>8.2f} {row['cohort_s']:>9.2f} {row['ratio']:>6.2f}")
    path = Path(__file__).parent / "results" / "cohort.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"device": name, "rows": results}, indent=2) + "\n")


def discard(run: int, reported: object) -> None:
    """Nobody reads what is reported here."""
    del run, reported


def measure(label: str, width: int, layers: int, batch: int, device: torch.device) -> dict[str, float | str]:
    """The best of a few repeats of either way, in the same process and in turn."""
    generator = torch.Generator().manual_seed(0)
    condition = torch.randn(2048, 12, 128, generator=generator).half().to(device)
    raw = torch.rand(2048, 6, 3, generator=generator).to(device)
    recipe = Recipe(
        decoder=DecoderSettings(width=width, layers=layers, heads=4),
        train=TrainSettings(batch=batch, steps=NUM_STEPS, warmup_steps=5),
    )
    space = fit_action_space(recipe.action_space, ("gas", "brake", "steering"), raw)
    data = train_data(condition, raw, space, fit_label_density(space.to_physical(raw)))
    validation = validation_data(condition[:64], raw[:64], space, 0)
    runs = [Run(f"run-{seed}", "control", seed, recipe) for seed in range(NUM_RUNS)]

    def seconds(cohorts: list[Cohort]) -> float:
        begin = time.perf_counter()
        for cohort in cohorts:
            fit(cohort, data, validation, Listener(discard, discard, discard))
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    solo = [Cohort((run,)) for run in runs]
    together = [Cohort(tuple(runs))]
    seconds(together)
    times = [(seconds(solo), seconds(together)) for _ in range(REPEATS)]
    solo_s, cohort_s = min(t[0] for t in times), min(t[1] for t in times)
    return {"shape": label, "solo_s": solo_s, "cohort_s": cohort_s, "ratio": solo_s / cohort_s}


if __name__ == "__main__":
    main()
