"""What is saved by scoring stored banks again instead of drawing from checkpoints?

A hundred banks of 5,000 frames x 32 draws are read from disk, proved by their digests, and scored with six readouts, as
`flowlab evaluate --all` does. Against that, one checkpoint of the demo's size draws as many and is scored likewise; it
is measured whole, and counted a hundred times. Prints the times and writes benchmarks/results/stored_draws.json.
"""

import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.core.types import ConditionSpec, MetricRow, TokenGroup
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.draw_bank import as_kept, bank_of, digest_bank, read_bank, write_bank
from flowlab.evaluate.draws import draw_model
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.readouts import build_readout
from flowlab.evaluate.scorer import Scorer
from flowlab.evaluate.stats import fit_stats
from flowlab.policy.decoder import Decoder, initialise
from flowlab.policy.objectives import FlowMatching
from flowlab.policy.space_json import space_to_json
from flowlab.study.recipe import ActionSpaceSettings, DecoderSettings, EvaluationSettings, ObjectiveSettings
from flowlab.study.selection import selection_for

CHANNELS = ("gas", "brake", "steering")
NUM_BANKS, NUM_FRAMES, HORIZON, HISTORY, NUM_DRIVES = 100, 5000, 6, 6, 8
NUM_TOKENS, WIDTH = 12, 384
READOUTS = ("single", "meank", "mediank", "mode", "mode-medoid", "best-draw")
SETTINGS = EvaluationSettings(draws=32, solver="heun", solver_steps=4, precision="float16")
DECODER = DecoderSettings(width=64, layers=3, heads=4)  # the demo's


def main() -> None:
    result = measure()
    path = Path(__file__).parent / "results" / "stored_draws.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


def measure() -> dict[str, object]:
    """Seconds for one checkpoint and for all banks, and their ratio."""
    torch.set_num_threads(1)
    frames = made(np.random.default_rng(0))
    train = torch.from_numpy(frames.truth)
    space = fit_stats(ActionSpaceSettings(), "repeat", HORIZON, CHANNELS, train).space
    scorer = Scorer(
        frames,
        define_metrics(None, CHANNELS, dict.fromkeys(CHANNELS, 0.3)),
        space,
        SETTINGS,
        selection_for(None, CHANNELS),
    )
    begin, busy = time.perf_counter(), time.process_time()
    kept = drawn(frames)
    fresh = rows(scorer, kept)
    from_checkpoint = time.perf_counter() - begin, time.process_time() - busy
    each: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(NUM_BANKS):
            path = Path(folder) / f"{number}.zarr"
            write_bank(path, bank_of(kept, frames, {"action_space": space_to_json(space)}), frames)
            digest = digest_bank(path)
            begin, busy = time.perf_counter(), time.process_time()
            bank = read_bank(path)
            assert digest_bank(path) == digest
            found = rows(scorer, bank.model)
            each.append((time.perf_counter() - begin, time.process_time() - busy))
            assert found == fresh
            shutil.rmtree(path)
    wall, processor = (sum(one) for one in zip(*each, strict=True))
    what = f"{NUM_BANKS} banks of {NUM_FRAMES} frames x {SETTINGS.draws} draws, {len(READOUTS)} readouts, CPU, 1 thread"
    print(what)
    print(f"{'':24} {'wall s':>8} {'proc. s':>8}")
    print(f"{'all banks':24} {wall:>8.1f} {processor:>8.1f}")
    print(f"{'one checkpoint, whole':24} {from_checkpoint[0]:>8.1f} {from_checkpoint[1]:>8.1f}")
    ratios = NUM_BANKS * from_checkpoint[0] / wall, NUM_BANKS * from_checkpoint[1] / processor
    print(f"{'a hundred of these':24} {ratios[0]:>7.1f}x {ratios[1]:>7.1f}x   the same rows")
    return {
        "what": what,
        "all_banks_s": wall,
        "all_banks_processor_s": processor,
        "median_bank_s": median(one[0] for one in each),
        "one_checkpoint_s": from_checkpoint[0],
        "one_checkpoint_processor_s": from_checkpoint[1],
        "times_faster_wall": ratios[0],
        "times_faster_processor": ratios[1],
    }


def rows(scorer: Scorer, kept: NDArray[np.floating]) -> list[MetricRow]:
    draws = scorer.raw(kept)
    readouts = [build_readout(name, scorer.selection, SETTINGS.clip) for name in READOUTS]
    return [row for readout in readouts for row in scorer.rows_of(readout, draws)]


def drawn(frames: ValidationFrames) -> NDArray[np.floating]:
    """The draws of a decoder of the demo's size for frames with a condition of the published size."""
    decoder = Decoder(1, DECODER, HORIZON, 2, ConditionSpec(WIDTH, (TokenGroup("tokens", NUM_TOKENS),)))
    initialise(decoder, [0])
    objective = FlowMatching([ObjectiveSettings()], True, torch.device("cpu"))
    condition = torch.randn(NUM_FRAMES, NUM_TOKENS, WIDTH, generator=torch.Generator().manual_seed(0)).half()
    (model,) = draw_model(objective, decoder, replace(frames, condition=condition), SETTINGS)
    return as_kept(model, SETTINGS.precision)


def made(stream: np.random.Generator) -> ValidationFrames:
    """Frames of several drives, one after the other."""
    per_drive = NUM_FRAMES // NUM_DRIVES
    index = np.arange(NUM_FRAMES)[:, None] % per_drive + np.arange(1 - HISTORY, 1)
    truth = stream.uniform(0, 1, (NUM_FRAMES, HORIZON, len(CHANNELS))).astype(np.float32)
    truth[..., 2] = 2 * truth[..., 2] - 1
    return ValidationFrames(
        channels=CHANNELS,
        truth=truth,
        drive=np.arange(NUM_FRAMES) // per_drive,
        drive_ids=tuple(f"drive_{number}" for number in range(NUM_DRIVES)),
        frame_index=index,
        time_us=index * 100_000,
        history_action=np.zeros((NUM_FRAMES, HISTORY, len(CHANNELS)), np.float32),
        speed_mps=np.ones((NUM_FRAMES, HISTORY), np.float32),
        waypoints=None,
        condition=torch.zeros(NUM_FRAMES, 0, 0, dtype=torch.float16),
    )


if __name__ == "__main__":
    main()
