"""What is gained by reading modes out of all frames at once?

mode and mode-medoid of one bank of draws are read out twice, in turn: for all frames at once, and by a plain loop over
frames. Then all that a run ends with is scored, over and over, as when stored banks are scored again: the slices are
worked out once. Prints the times and writes benchmarks/results/selection.json.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.mode_readouts import Mode, ModeMedoid
from flowlab.evaluate.scorer import Scorer
from flowlab.policy.action_space import ActionSpace, Identity
from flowlab.study.recipe import EvaluationSettings
from flowlab.study.selection import SelectionSettings, selection_for

CHANNELS = ("gas", "brake", "steering")
NUM_FRAMES, NUM_DRAWS, HORIZON, HISTORY, NUM_DRIVES = 5000, 32, 6, 6, 8
TWO_MODES, MASS = 0.3, 0.6  # of the frames, and of the draws of such a frame on its upper mode
REPEATS, NUM_BANKS = 5, 10


def main() -> None:
    torch.set_num_threads(1)
    frames, draws = made(np.random.default_rng(0))
    settings = SelectionSettings()
    what = f"{NUM_FRAMES} frames x {NUM_DRAWS} draws x {HORIZON} slots, CPU, 1 thread"
    print(what)
    result: dict[str, object] = {"what": what}
    for readout, plain in ((Mode(settings), plain_mode), (ModeMedoid(settings), plain_medoid)):
        difference = float(np.abs(readout(draws, frames) - plain(draws, settings)).max())
        turns = [(seconds(plain, draws, settings), seconds(readout, draws, frames)) for _ in range(REPEATS)]
        loop_s, own_s = min(turn[0] for turn in turns), min(turn[1] for turn in turns)
        ratios = sorted(turn[0] / turn[1] for turn in turns)
        print(
            f"{readout.name}: loop over frames {loop_s:.3f} s, at once {own_s:.4f} s, ratio {loop_s / own_s:.1f} "
            f"(by turn {ratios[0]:.1f} to {ratios[-1]:.1f}), largest difference {difference:.1e}"
        )
        result[readout.name] = {"loop_s": loop_s, "at_once_s": own_s, "ratios": ratios, "difference": difference}
    scorer = scorer_of(frames)
    first_s = seconds(scorer.rows, draws)
    bank_s = min(seconds(scorer.rows, draws) for _ in range(NUM_BANKS))
    num_rows = len(scorer.rows(draws))
    print(f"all {num_rows} rows of a bank: {bank_s:.3f} s, of the first one {first_s:.3f} s")
    result |= {"bank_s": bank_s, "first_bank_s": first_s, "num_rows": num_rows}
    path = Path(__file__).parent / "results" / "selection.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


def made(stream: np.random.Generator) -> tuple[ValidationFrames, NDArray[np.float32]]:
    """Frames of several drives, one after the other, and draws of which some have two modes of steering."""
    draws = stream.normal(0, 0.05, (NUM_FRAMES, NUM_DRAWS, HORIZON, len(CHANNELS))).astype(np.float32)
    two, up = stream.uniform(size=NUM_FRAMES) < TWO_MODES, stream.uniform(size=(NUM_FRAMES, NUM_DRAWS)) < MASS
    draws[..., -1] += np.where(two[:, None] & up, 0.5, 0.0)[..., None]
    per_drive = NUM_FRAMES // NUM_DRIVES
    index = np.arange(NUM_FRAMES)[:, None] % per_drive + np.arange(1 - HISTORY, 1)
    frames = ValidationFrames(
        channels=CHANNELS,
        truth=draws[:, 0].copy(),
        drive=np.arange(NUM_FRAMES) // per_drive,
        drive_ids=tuple(f"drive_{number}" for number in range(NUM_DRIVES)),
        frame_index=index,
        time_us=index * 100_000,
        history_action=np.zeros((NUM_FRAMES, HISTORY, len(CHANNELS)), np.float32),
        speed_mps=np.ones((NUM_FRAMES, HISTORY), np.float32),
        waypoints=None,
        condition=torch.zeros(NUM_FRAMES, 0, 0, dtype=torch.float16),
    )
    return frames, draws


def scorer_of(frames: ValidationFrames) -> Scorer:
    definitions = define_metrics(None, CHANNELS, dict.fromkeys(CHANNELS, 0.3))
    space = ActionSpace(CHANNELS, CHANNELS, Identity())
    return Scorer(frames, definitions, space, EvaluationSettings(draws=NUM_DRAWS), selection_for(None, CHANNELS))


def plain_mode(draws: NDArray[np.float32], settings: SelectionSettings) -> NDArray[np.float32]:
    """The readout `mode`, frame by frame."""
    return np.stack([cloud[larger_mode(cloud, settings)].mean(axis=0, dtype=np.float64) for cloud in draws]).astype(
        np.float32
    )


def plain_medoid(draws: NDArray[np.float32], settings: SelectionSettings) -> NDArray[np.float32]:
    """The readout `mode-medoid`, frame by frame."""
    chunks = []
    for cloud in draws:
        members = cloud[larger_mode(cloud, settings)].astype(np.float64)
        distance = ((members - members.mean(axis=0)) ** 2).sum(axis=(1, 2))
        chunks.append(members[distance.argmin()])
    return np.stack(chunks).astype(np.float32)


def larger_mode(cloud: NDArray[np.float32], settings: SelectionSettings) -> NDArray[np.int64]:
    """Which of the draws (K, H, A) of one frame are its larger mode."""
    means = cloud[..., CHANNELS.index(settings.channel)].mean(axis=1, dtype=np.float64)
    order = np.argsort(means, kind="stable")
    gaps = np.diff(means[order])
    num_lower = int(gaps.argmax()) + 1
    smaller = min(num_lower, len(cloud) - num_lower)
    if gaps.max() <= settings.gap or smaller < settings.minority * len(cloud):
        return np.arange(len(cloud))
    return np.sort(order[:num_lower] if 2 * num_lower >= len(cloud) else order[num_lower:])


def seconds(work: Callable[..., object], *given: object) -> float:
    begin = time.perf_counter()
    work(*given)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
