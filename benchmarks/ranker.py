"""How long does a learned ranker of the published size train, and what does a cohort of four gain over four alone?

Rankers of 12 x 384 conditions and 6 x 3 chunks are trained on made-up draws for a few steps, one after the other and as
one cohort; the bits must agree. The time of a whole training is those of its steps: it is told for the default of
16,384 train frames x 8 draws and 64 epochs, and for the 88,000 of the published pilot. Drawing comes on top
(benchmarks/draws.py). Prints the times and writes benchmarks/results/ranker.json.
"""

import json
import time
from pathlib import Path

import torch

from flowlab.policy.ranker import Ranker
from flowlab.study.ranker import RankerSettings
from flowlab.train.ranker import RankerData, fit_rankers

NUM_TOKENS, TOKEN_WIDTH, HORIZON, NUM_CHANNELS = 12, 384, 6, 3
NUM_FRAMES, REPEATS, COHORT = 512, 3, 4
WIDTHS = (512, 256)
WHOLE = {"16,384 frames": 16_384, "the pilot's 88,000 frames": 88_000}


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, 1 thread (processor time)"
    print(f"{NUM_FRAMES} frames, {COHORT} runs, on {name}")
    results = [measure(RankerSettings(width=width, epochs=1), device) for width in WIDTHS]
    path = Path(__file__).parent / "results" / "ranker.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"device": name, "widths": results}, indent=2) + "\n")


def measure(settings: RankerSettings, device: torch.device) -> dict:
    """Seconds of one epoch, of one ranker alone and per ranker of a cohort, the least of some repeats."""
    data = made_up(settings.draws, device)
    seeds = list(range(COHORT))
    fit_rankers(of_run(data, 0), settings, seeds[:1])  # what the first call of a kernel costs is nobody's
    alone_s, together_s = [], []
    for _ in range(REPEATS):
        begin = now(device)
        alone = [fit_rankers(of_run(data, run), settings, [run]).ranker for run in seeds]
        alone_s.append((now(device) - begin) / COHORT)
        begin = now(device)
        together = fit_rankers(data, settings, seeds).ranker
        together_s.append((now(device) - begin) / COHORT)
    same = all(same_bits(one, 0, together, run) for run, one in enumerate(alone))
    one_s, each_s = min(alone_s), min(together_s)
    parameters = sum(parameter.numel() for parameter in together.parameters()) // COHORT
    print(
        f"width {settings.width} ({parameters:,} parameters), {settings.draws} draws, batch {settings.batch}: an epoch "
        f"takes {one_s:.2f} s alone, {each_s:.2f} s each in a cohort of {COHORT} ({one_s / each_s:.2f}x); "
        f"the same bits: {'yes' if same else 'no'}"
    )
    whole = {}
    for what, num in WHOLE.items():
        whole[what] = one_s * num / NUM_FRAMES * RankerSettings().epochs
        print(f"  64 epochs of {what}: {whole[what] / 60:.1f} min, reckoned from that")
    told = {"width": settings.width, "parameters": parameters, "epoch_alone_s": one_s, "epoch_in_cohort_s": each_s}
    return told | {"same_bits": same, "whole_s": whole}


def made_up(num_draws: int, device: torch.device) -> RankerData:
    generator = torch.Generator().manual_seed(0)
    condition = torch.randn(NUM_FRAMES, NUM_TOKENS, TOKEN_WIDTH, generator=generator).half()
    draws = torch.randn(COHORT, NUM_FRAMES, num_draws, HORIZON, NUM_CHANNELS, generator=generator)
    error = torch.rand(COHORT, NUM_FRAMES, num_draws, generator=generator)
    return RankerData(condition.to(device), draws.to(device), error.to(device))


def of_run(data: RankerData, run: int) -> RankerData:
    return RankerData(data.condition, data.draws[run : run + 1], data.error[run : run + 1])


def same_bits(one: Ranker, run: int, other: Ranker, other_run: int) -> bool:
    pairs = zip(one.run_tensors(run).values(), other.run_tensors(other_run).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def now(device: torch.device) -> float:
    """Seconds; on a CPU, of this process's one thread, so that other work beside it counts less."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
