"""What is gained by projecting the condition once per frame, for all draws and all solver steps?

The control's decoder draws K chunks per frame twice: with the keys and values kept and the draws in the query axis, and
the plain way, each draw as a frame of its own and the condition projected anew at each evaluation of the velocity.
Prints the times and writes benchmarks/results/draws.json.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy.decoder import Decoder, initialise
from flowlab.policy.objectives import FlowMatching
from flowlab.policy.solver import solve
from flowlab.study.recipe import DecoderSettings, EvaluationSettings, ObjectiveSettings

NUM_FRAMES, HORIZON, NUM_CHANNELS, NUM_TOKENS, CONDITION_WIDTH = 16, 6, 2, 12, 384
SETTINGS = EvaluationSettings(draws=32, solver="heun", solver_steps=4)
REPEATS = 3


@torch.no_grad()
def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, 1 thread"
    decoder = Decoder(
        1, DecoderSettings(), HORIZON, NUM_CHANNELS, ConditionSpec(CONDITION_WIDTH, (TokenGroup("tokens", NUM_TOKENS),))
    )
    initialise(decoder, [0])
    decoder.to(device)
    generator = torch.Generator().manual_seed(0)
    condition = torch.randn(1, NUM_FRAMES, NUM_TOKENS, CONDITION_WIDTH, generator=generator).to(device)
    noise = torch.randn(1, NUM_FRAMES, SETTINGS.draws, HORIZON, NUM_CHANNELS, generator=generator).to(device)
    objective = FlowMatching([ObjectiveSettings()], True, device)

    def kept() -> torch.Tensor:
        memory = decoder.remember(condition)
        return objective.sample(decoder, memory, noise, SETTINGS.solver, SETTINGS.solver_steps)

    def plain() -> torch.Tensor:
        repeated = condition.repeat_interleave(SETTINGS.draws, dim=1)

        def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
            time = torch.full(x.shape[:2], t, device=device)
            return decoder(x, time, decoder.remember(repeated))

        alone = noise.reshape(1, -1, 1, HORIZON, NUM_CHANNELS)
        return solve(velocity, alone, SETTINGS.solver, SETTINGS.solver_steps).reshape(noise.shape)

    difference = float((kept() - plain()).abs().max())
    times = [(seconds(plain, device), seconds(kept, device)) for _ in range(REPEATS)]
    plain_s, kept_s = min(t[0] for t in times), min(t[1] for t in times)
    what = f"{NUM_FRAMES} frames x {SETTINGS.draws} draws, {SETTINGS.solver}/{SETTINGS.solver_steps}, control's decoder"
    print(f"{what}, on {name}")
    print(
        f"plain {plain_s:.2f} s, kept {kept_s:.2f} s, ratio {plain_s / kept_s:.2f}, largest difference {difference:.1e}"
    )
    result = {"device": name, "what": what, "plain_s": plain_s, "kept_s": kept_s, "largest_difference": difference}
    path = Path(__file__).parent / "results" / "draws.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


def seconds(work: Callable[[], torch.Tensor], device: torch.device) -> float:
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
