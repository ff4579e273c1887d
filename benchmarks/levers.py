"""What does a step of each lever cost, against a step of the control in the same program run?

Every lever of the demo's experiments.toml, on random data of the demo's shapes, one run each, one thread.
Prints a table and writes benchmarks/results/levers.json.
"""

import json
import time
from pathlib import Path

import torch

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.core.vocabulary import CHANNELS, IMAGE_TOKENS, WAYPOINT_TOKENS
from flowlab.evaluate.stats import fit_stats
from flowlab.policy.build import seen_tokens
from flowlab.study.recipe import Recipe
from flowlab.study.study import CONTROL, load_study
from flowlab.train.cohort import Cohort, Run
from flowlab.train.data import train_data
from flowlab.train.fit import Listener, fit
from flowlab.train.validate import validation_data

GROUPS = (
    TokenGroup("summary", 1),
    TokenGroup("history", 1),
    TokenGroup(WAYPOINT_TOKENS, 10),
    TokenGroup(IMAGE_TOKENS, 9),
)
SPEC = ConditionSpec(128, GROUPS)
NUM_WINDOWS, HORIZON, NUM_STEPS, REPEATS = 2048, 6, 10, 3


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, 1 thread"
    study = load_study(Path(__file__).parents[1])
    rows = []
    for lever in study.levers:
        both = [(seconds(study.control, device), seconds(study.recipe(lever), device)) for _ in range(REPEATS)]
        control_s, lever_s = best([control for control, _ in both]), best([own for _, own in both])
        rows.append({"lever": lever, "control_s": control_s, "lever_s": lever_s, "ratio": lever_s / control_s})
    print(f"seconds a step, {NUM_STEPS} steps of the demo's shapes, on {name}")
    print(f"{'lever':<28} {CONTROL:>8} {'lever':>8} {'ratio':>6}")
    for row in sorted(rows, key=lambda row: row["ratio"]):
        print(f"{row['lever']:<28} {row['control_s']:>8.4f} {row['lever_s']:>8.4f} {row['ratio']:>6.2f}")
    path = Path(__file__).parent / "results" / "levers.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"device": name, "rows": rows}, indent=2) + "\n")


def discard(run: int, reported: object) -> None:
    """Nobody reads what is reported here."""
    del run, reported


def best(repeats: list[tuple[float, float]]) -> float:
    """Seconds a step from (one step, many steps), the least of each: what is done once per run falls out."""
    return (min(long for _, long in repeats) - min(short for short, _ in repeats)) / NUM_STEPS


def seconds(recipe: Recipe, device: torch.device) -> tuple[float, float]:
    """Wall time of a run of one step, and of one with NUM_STEPS more."""
    generator = torch.Generator().manual_seed(0)
    condition = torch.randn(NUM_WINDOWS, SPEC.num_tokens, SPEC.width, generator=generator).half()
    raw = torch.rand(NUM_WINDOWS, HORIZON, len(CHANNELS), generator=generator)
    spec, tokens = seen_tokens(recipe.decoder, SPEC)
    horizon = recipe.decoder.horizon or HORIZON
    stats = fit_stats(recipe.action_space, recipe.objective.lds.edges, horizon, CHANNELS, raw)
    seen = condition[:, tokens].to(device)
    data = train_data(seen, raw.to(device), stats.space, stats.density, horizon, seen.flip(0))
    validation = validation_data(seen[:1], raw[:1].to(device), stats.space, 0, horizon)

    def run(steps: int) -> float:
        train = recipe.train.model_copy(update={"steps": steps})
        cohort = Cohort((Run("run", CONTROL, 1, recipe.model_copy(update={"train": train})),))
        begin = time.perf_counter()
        fit(cohort, data, validation, Listener(discard, discard, discard), spec=spec)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    return run(1), run(1 + NUM_STEPS)


if __name__ == "__main__":
    main()
