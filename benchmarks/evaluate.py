"""What does evaluating a run cost, against the plain way?

Sampling: the published control's decoder draws K chunks per frame in three ways, in turn.

- plain: each draw as a frame of its own and the condition projected anew at each evaluation of the velocity;
- kept: keys and values kept and the draws in the query axis, the decoder itself asked for the velocity;
- sampler: as a run's evaluation does it.

Prints medians of wall and processor time, the latter because the machine may be shared, and writes
benchmarks/results/evaluate.json.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.evaluate.draws import sample_frames
from flowlab.policy.decoder import Decoder, initialise
from flowlab.policy.objectives import FlowMatching
from flowlab.policy.solver import solve
from flowlab.study.recipe import DecoderSettings, EvaluationSettings, ObjectiveSettings

NUM_FRAMES, HORIZON, NUM_CHANNELS, NUM_TOKENS, CONDITION_WIDTH = 8, 6, 2, 12, 384
SETTINGS = EvaluationSettings(draws=32, solver="heun", solver_steps=32)
REPEATS = 3


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, 1 thread"
    print(f"on {name}")
    result = {"device": name, "sampling": sampling(device)}
    path = Path(__file__).parent / "results" / "evaluate.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


@torch.no_grad()
def sampling(device: torch.device) -> dict:
    """Times of the three ways of sampling, and how far their draws are from the plain way's."""
    generator = torch.Generator().manual_seed(0)
    decoder = control(generator).to(device)
    condition = torch.randn(NUM_FRAMES, NUM_TOKENS, CONDITION_WIDTH, generator=generator).to(device)
    noise = torch.randn(NUM_FRAMES, SETTINGS.draws, HORIZON, NUM_CHANNELS, generator=generator).to(device)
    objective = FlowMatching([ObjectiveSettings()], True, device)

    def plain() -> torch.Tensor:
        repeated = condition.repeat_interleave(SETTINGS.draws, dim=0)[None]

        def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
            return decoder(x, torch.full(x.shape[:2], t, device=device), decoder.remember(repeated))

        alone = noise.reshape(1, -1, 1, HORIZON, NUM_CHANNELS)
        return solve(velocity, alone, SETTINGS.solver, SETTINGS.solver_steps).reshape(1, *noise.shape)

    def kept() -> torch.Tensor:
        memory = decoder.remember(condition[None])

        def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
            return decoder(x, torch.full((1, 1), t, device=device), memory)

        return solve(velocity, noise[None], SETTINGS.solver, SETTINGS.solver_steps)

    def sampler() -> torch.Tensor:
        return sample_frames(objective, decoder, condition, noise, SETTINGS)

    what = f"{NUM_FRAMES} frames x {SETTINGS.draws} draws, {SETTINGS.solver}/{SETTINGS.solver_steps}, control's decoder"
    return {"what": what, **compared(what, {"plain": plain, "kept": kept, "sampler": sampler}, device)}


def control(generator: torch.Generator) -> Decoder:
    """The published control's decoder. What is zero before training is not: modulations would then do nothing."""
    spec = ConditionSpec(CONDITION_WIDTH, (TokenGroup("tokens", NUM_TOKENS),))
    decoder = Decoder(1, DecoderSettings(), HORIZON, NUM_CHANNELS, spec)
    initialise(decoder, [0])
    for parameter in decoder.parameters():
        if not parameter.any():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return decoder


def compared(what: str, ways: dict[str, Callable[[], torch.Tensor]], device: torch.device) -> dict:
    """Seconds of each way, one after the other and all over again, against the first; differences to its result."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    differences: dict[str, float] = {}
    expected = None
    for _ in range(REPEATS):
        for name, way in ways.items():
            begin, busy = time.perf_counter(), time.process_time()
            found = way()
            if device.type == "cuda":
                torch.cuda.synchronize()
            wall[name].append(time.perf_counter() - begin)
            processor[name].append(time.process_time() - busy)
            expected = found if expected is None else expected
            differences[name] = float((found - expected).abs().max())
    first = next(iter(ways))
    rows = {
        name: {
            "wall_s": median(wall[name]),
            "processor_s": median(processor[name]),
            "times_faster_wall": median(wall[first]) / median(wall[name]),
            "times_faster_processor": median(processor[first]) / median(processor[name]),
            "largest_difference": differences[name],
            "each_wall_s": wall[name],
            "each_processor_s": processor[name],
        }
        for name in ways
    }
    print(f"{what}\n{'way':<10} {'wall s':>8} {'ratio':>6} {'proc. s':>8} {'ratio':>6} {'largest difference':>19}")
    for name, row in rows.items():
        print(
            f"{name:<10} {row['wall_s']:>8.2f} {row['times_faster_wall']:>6.2f} {row['processor_s']:>8.2f} "
            f"{row['times_faster_processor']:>6.2f} {row['largest_difference']:>19.1e}"
        )
    return rows


if __name__ == "__main__":
    main()
