"""Does what a frame costs stay the same from 10,000 to 200,000 frames, and does memory?

Each stage runs in a process of its own for each number of frames; drives of 1,000 frames grow with them.

- gather: a batch's conditions, actions, noise and weights, from memory, one seed, conditions of 12 x 384;
- streamed: the same from a cache's files, in the order of shuffled blocks;
- draw: K draws into a bank on disk, of a solver that takes no step: noise, keys and values of a tiny decoder, writing;
- read-bank: the bank brought back as raw chunks;
- readouts: the chunks of all of flowlab's own readouts;
- score: all metrics of one chunk a frame, its slices and drives told anew each time;
- rows: readouts and metrics together, as a run is scored;
- ingest: rows of one readout, from a run's journal into a ledger;
- evaluation: eight runs drawn likewise, scored and kept, by the function that runs go through. A true decoder draws as
  many frames at a time, whatever their number: what is measured is the memory.

Prints processor time a frame (the median of several tries) and the peak of resident memory, of which some 300 MB are
torch and, for gather, 9.2 kB a frame the conditions; writes benchmarks/results/scale.json. Small: --frames 2000 4000.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.cache.conditions import Streamed
from flowlab.cache.layout import ArrayLayout
from flowlab.cache.writer import ArrayWriter, writing
from flowlab.core.progress import SILENT
from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.draw_bank import BankWriter, bank_of, read_bank, write_bank
from flowlab.evaluate.draws import draw_shape
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.metrics import score
from flowlab.evaluate.readouts import own_readouts
from flowlab.evaluate.scorer import Scorer
from flowlab.evaluate.stats import Stats, fit_stats
from flowlab.journal.lines import RunJournal
from flowlab.lab.run import evaluate
from flowlab.lab.run_dir import RunDir
from flowlab.ledger.ingest import ingest
from flowlab.policy.decoder import Decoder, initialise
from flowlab.study.recipe import (
    ActionSpaceSettings,
    DecoderSettings,
    EvaluationSettings,
    Recipe,
    TrainSettings,
)
from flowlab.study.selection import selection_for
from flowlab.train.cohort import Cohort, Run
from flowlab.train.data import Batches, Conditions, train_data
from flowlab.train.order import WINDOW_BLOCKS

CHANNELS, HORIZON, HISTORY, PER_DRIVE = ("gas", "brake", "steering"), 6, 6, 1000
TOKENS, WIDTH, BATCH = 12, 384, 1000
NUM_RUNS = 8
SETTINGS = EvaluationSettings(draws=32, solver="euler", solver_steps=1)
CPU = torch.device("cpu")
FEWEST_FRAMES = 20_000  # that a try goes over, again and again if there are fewer


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--stage", choices=STAGES, help="this one alone, in this process, at the first of --frames")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.stage:
        with tempfile.TemporaryDirectory() as folder:
            found_here = STAGES[given.stage](given.frames[0], Path(folder), given.tries)
        print(json.dumps(found_here | {"peak_mb": peak_mb()}))
        return
    found = {stage: [measured(stage, num, given.tries) for num in given.frames] for stage in STAGES}
    print_table(given.frames, found)
    path = Path(__file__).parent / "results" / "scale.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"frames": given.frames, "stages": found}, indent=2) + "\n")


def measured(stage: str, num_frames: int, tries: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--stage", stage, "--frames", str(num_frames), "--tries", str(tries)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def print_table(frames: list[int], found: dict[str, list[dict[str, float]]]) -> None:
    numbers = "".join(f"{num:>10,}" for num in frames)
    print(f"{'':12}{'us of processor a frame, at':>{10 * len(frames)}} {'ratio':>6}  {'peak MB':>{9 * len(frames)}}")
    print(f"{'':12}{numbers} {'':6}  {''.join(f'{num:>9,}' for num in frames)}")
    for stage, of_stage in found.items():
        times = [one["us_per_frame"] for one in of_stage]
        peaks = "".join(f"{one['peak_mb']:>9.0f}" for one in of_stage)
        print(f"{stage:12}{''.join(f'{one:>10.2f}' for one in times)} {times[-1] / times[0]:>6.2f}  {peaks}")
    for key, told in (("times_arrays", "peak of scoring, times the arrays"), ("num_rows", "metric rows")):
        values = [f"{one[key]:,.3g}" if one[key] < 100 else f"{one[key]:,.0f}" for one in found["score"]]
        print(f"{told}: {', '.join(values)}")


def peak_mb() -> float:
    """The most resident memory of this process, of which some 300 MB are torch."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))


def timed(num_frames: int, work: Callable[[], Any], tries: int) -> dict[str, float]:
    """The median over tries of a frame's processor and wall time, in microseconds."""
    repeats = max(1, FEWEST_FRAMES // num_frames) if tries > 1 else 1
    busy, wall = [], []
    for _ in range(tries):
        begin, start = time.process_time(), time.perf_counter()
        for _ in range(repeats):
            work()
        busy.append((time.process_time() - begin) / repeats / num_frames * 1e6)
        wall.append((time.perf_counter() - start) / repeats / num_frames * 1e6)
    return {"us_per_frame": statistics.median(busy), "wall_us_per_frame": statistics.median(wall)}


def made(num_frames: int) -> ValidationFrames:
    """Frames of drives of 1,000, one after the other; steering wanders."""
    stream = np.random.default_rng(0)
    truth = stream.uniform(0, 1, (num_frames, HORIZON, 3)).astype(np.float32)
    truth[..., 2] = np.sin(np.cumsum(stream.normal(0, 0.05, num_frames)))[:, None]
    now = np.arange(num_frames) % PER_DRIVE
    index = now[:, None] + np.arange(1 - HISTORY, 1)
    return ValidationFrames(
        channels=CHANNELS,
        truth=truth,
        drive=np.arange(num_frames) // PER_DRIVE,
        drive_ids=tuple(f"drive_{number:04d}" for number in range(-(-num_frames // PER_DRIVE))),
        frame_index=index,
        time_us=index * 100_000,
        history_action=np.repeat(truth[:, :1], HISTORY, axis=1),
        speed_mps=np.full((num_frames, HISTORY), 10, np.float32),
        waypoints=None,
        condition=torch.zeros(num_frames, 1, 8, dtype=torch.float16),
    )


def stats_of(frames: ValidationFrames) -> Stats:
    return fit_stats(ActionSpaceSettings(), "repeat", HORIZON, CHANNELS, torch.from_numpy(frames.truth[:10_000]))


def scorer_of(frames: ValidationFrames) -> Scorer:
    definitions = define_metrics(None, CHANNELS, dict.fromkeys(CHANNELS, 0.9))
    return Scorer(frames, definitions, stats_of(frames).space, SETTINGS, selection_for(None, CHANNELS))


def drawn(frames: ValidationFrames) -> NDArray[np.float32]:
    """Raw draws (N, K, H, A) of two modes."""
    stream = np.random.default_rng(1)
    draws = stream.standard_normal((len(frames), SETTINGS.draws, HORIZON, 3), dtype=np.float32)
    draws *= 0.1
    draws += frames.truth[:, None]
    draws[:, ::3, :, 2] *= -1
    return draws


def batches(condition: Conditions, shuffle: str) -> Callable[[], None]:
    """Goes through one epoch of batches."""
    frames = made(len(condition))
    stats = stats_of(frames)
    train = TrainSettings.model_validate({"batch": BATCH, "shuffle": shuffle})
    cohort = Cohort((Run("r", "control", 1, Recipe(train=train)),))
    served = Batches(cohort, train_data(condition, torch.from_numpy(frames.truth), stats.space, stats.density))

    def epoch() -> None:
        served._epoch = -1  # an order is drawn once an epoch
        for step in range(served.steps_per_epoch):
            served.at(step)

    return epoch


def gather(num_frames: int, folder: Path, tries: int) -> dict[str, float]:
    del folder
    return timed(num_frames, batches(torch.ones(num_frames, TOKENS, WIDTH, dtype=torch.float16), "rows"), tries)


def streamed(num_frames: int, folder: Path, tries: int) -> dict[str, float]:
    layout = ArrayLayout("train/condition/normal", (num_frames, TOKENS, WIDTH))
    with writing(folder) as files:
        writer = ArrayWriter(files, layout)
        for first in range(0, num_frames, BATCH):
            writer.append(np.ones((min(BATCH, num_frames - first), TOKENS, WIDTH), np.float16))
        digests = writer.finish()
    condition = Streamed(folder, layout, digests, CPU, tuple(range(TOKENS)), 2 * WINDOW_BLOCKS)
    return timed(num_frames, batches(condition, "blocks"), tries)


class OwnNoise:
    """Draws that are the noise that they start from."""

    deterministic = False

    def sample(self, decoder: Any, memory: Any, x0: torch.Tensor, solver: str, num_steps: int) -> torch.Tensor:
        del decoder, memory, solver, num_steps
        return x0


def decoder_of(num_runs: int) -> tuple[Any, Decoder]:
    spec = ConditionSpec(8, (TokenGroup("token", 1),))
    decoder = Decoder(num_runs, DecoderSettings(width=8, layers=1, heads=2), HORIZON, 2, spec)
    initialise(decoder, list(range(num_runs)))
    return OwnNoise(), decoder


def draw(num_frames: int, folder: Path, tries: int) -> dict[str, float]:
    scorer, (objective, decoder) = scorer_of(made(num_frames)), decoder_of(1)

    def work() -> None:
        shape = draw_shape(objective, decoder, SETTINGS)
        with BankWriter(folder / "draws.zarr", scorer.frames, shape) as bank:
            scorer.draw(objective, decoder, {0: bank})
            bank.finish({})

    return timed(num_frames, work, tries)


def read_draws(num_frames: int, folder: Path, tries: int) -> dict[str, float]:
    scorer = scorer_of(made(num_frames))
    model = np.random.default_rng(0).standard_normal((num_frames, SETTINGS.draws, HORIZON, 2), dtype=np.float32)
    write_bank(folder / "draws.zarr", bank_of(model, scorer.frames, {}), scorer.frames)
    del model
    return timed(num_frames, lambda: scorer.raw(read_bank(folder / "draws.zarr").model), tries)


def readouts(num_frames: int, folder: Path, tries: int) -> dict[str, float]:
    del folder
    frames = made(num_frames)
    draws, own = drawn(frames), own_readouts(selection_for(None, CHANNELS), SETTINGS.draws)
    return timed(num_frames, lambda: [readout(draws, frames) for readout in own], tries)


def scoring(num_frames: int, folder: Path, tries: int) -> dict[str, float]:
    del folder
    frames = made(num_frames)
    chunk = frames.truth + np.random.default_rng(1).normal(0, 0.1, frames.truth.shape).astype(np.float32)
    definitions = scorer_of(frames).definitions
    found = timed(num_frames, lambda: score(chunk, frames, definitions, readout="single"), tries)
    tracemalloc.start()
    num_rows = len(score(chunk, frames, definitions, readout="single"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    names = ("truth", "drive", "frame_index", "time_us", "history_action", "speed_mps")
    arrays = chunk.nbytes + sum(getattr(frames, name).nbytes for name in names)
    return found | {"times_arrays": peak / arrays, "num_rows": num_rows}


def all_rows(num_frames: int, folder: Path, tries: int) -> dict[str, float]:
    del folder
    frames = made(num_frames)
    draws = drawn(frames)
    return timed(num_frames, lambda: scorer_of(frames).rows(draws), tries)


def ingested(num_frames: int, folder: Path, tries: int) -> dict[str, float]:
    frames = made(num_frames)
    definitions = scorer_of(frames).definitions
    rows = score(frames.truth, frames, definitions, readout="single")
    ingest(folder / "ledger.duckdb", folder)

    def work() -> None:
        journal = RunJournal.of(folder, f"control-{time.monotonic_ns()}")
        journal.metrics(rows)
        journal.close()
        ingest(folder / "ledger.duckdb", folder)

    return timed(num_frames, work, tries)


def evaluation(num_frames: int, folder: Path, tries: int) -> dict[str, float]:
    del tries  # it is long, and its time is that of the parts
    scorer, (objective, decoder) = scorer_of(made(num_frames)), decoder_of(NUM_RUNS)
    cohort = Cohort(tuple(Run(f"r{seed}", "control", seed, Recipe()) for seed in range(NUM_RUNS)))
    train = SimpleNamespace(action=torch.from_numpy(scorer.frames.truth[:10_000]))
    ground = SimpleNamespace(frames_cache=SimpleNamespace(split=lambda *_, **__: train))
    trained = SimpleNamespace(objective=objective, decoder=decoder, crashed={})

    def work() -> None:
        with ExitStack() as stack:
            outs = [stack.enter_context(RunDir(folder / run.run_id)) for run in cohort.runs]
            banks = evaluate(cohort, cast(Any, trained), scorer, cast(Any, ground), outs, stack, SILENT)
            for run, bank in banks.items():
                outs[run].keep_draws(bank, {"run_id": cohort.runs[run].run_id})

    return timed(num_frames, work, 1)


STAGES: dict[str, Callable[[int, Path, int], dict[str, float]]] = {
    "gather": gather,
    "streamed": streamed,
    "draw": draw,
    "read-bank": read_draws,
    "readouts": readouts,
    "score": scoring,
    "rows": all_rows,
    "ingest": ingested,
    "evaluation": evaluation,
}


if __name__ == "__main__":
    main()
