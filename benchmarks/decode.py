"""How fast are the frames of a LeRobot data set read, and how much of that does a cache build notice?

It writes a data set of its own: v3.0, two episodes in one video of 480 x 640 at 30 fps, AV1 as LeRobot encodes it
(libsvtav1, a keyframe every second frame, crf 30, preset 12) and H.264 likewise.

1. Frames a second on one core, in order, whole images of 480 x 640: flowlab's source (RGB arrays, 64 rows at a time)
against LeRobot's own reader (`for i in range(len(ds)): ds[i]`, tensors in [0, 1]) in a Python of its own that
--lerobot names, with each of its decoders that loads there. Each side runs in a process of its own, pinned to one core,
with one thread. Without --lerobot it is compared with plain PyAV that seeks for each frame, as LeRobot's reader with
pyav does: that is then what the figure says, not LeRobot. Opening is told beside and not counted. A second line of
ours is what a cache build asks for: images resized to 224 x 224. `ours` is how many times faster our first line is;
frames per second of processor time say more where others use the machine too.

2. A whole cache build against the bare encoder on frames that are decoded and resized already, same blocks, same
threads: 1 is a build that nothing but its encoder holds up. Beside it the same reading and encoding one after the
other. The encoder is a frozen vision transformer of DINOv2-small's size with random weights (12 layers, width 384,
patches of 14) at 112 x 112, through the encoder `huggingface`; at 224 x 224 it would be four times as heavy and the
question easier. With one thread, as beside a GPU, the other cores are there to decode; with a thread a core the encoder
wants them all, so that a build cannot take less than both works together.

Each pair in turns, --rounds times, medians. Prints tables and writes benchmarks/results/decode.json.
Small: --frames 60 --rounds 1.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sets.lerobot_videos import CAMERA, FPS, HEIGHT, WIDTH, video_of, write_data_set

SMALL = 224
ENCODED = 112
DECODERS = ("torchcodec", "pyav")
ROWS = 64

LEROBOT = """
import json, os, sys, time
root, core, decoder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.sched_setaffinity(0, {core})
import lerobot, torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
torch.set_num_threads(1)
begin = time.perf_counter()
ds = LeRobotDataset("benchmark/decode", root=root, video_backend=decoder)
ds[0]
opened, cpu = time.perf_counter(), time.process_time()
for i in range(len(ds)):
    ds[i]
told = {"frames": len(ds), "seconds": time.perf_counter() - opened, "cpu_s": time.process_time() - cpu}
told |= {"open_s": opened - begin, "version": lerobot.__version__}
print("RESULT" + json.dumps(told))
"""


def main() -> None:
    asked = options()
    if asked.worker:
        print("RESULT" + json.dumps(run_worker(asked.worker, Path(asked.folder))))
        return
    result: dict[str, Any] = {"frames": asked.frames, "rounds": asked.rounds, "cores": os.cpu_count()}
    result["load_at_begin"] = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        for codec in asked.codec.split(","):
            folder = Path(name) / codec
            write_data_set(folder, codec, asked.frames)
            if "read" in asked.part:
                result[codec] = compare_reading(folder, codec, asked)
        if "build" in asked.part:
            result["build"] = compare_building(folder, Path(name), codec, asked)
    result["load_at_end"] = os.getloadavg()[0]
    path = Path(__file__).parent / "results" / "decode.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Reading the frames of a LeRobot data set, and building a cache.")
    parser.add_argument("--lerobot", metavar="PYTHON", help="a Python in whose environment lerobot is installed")
    parser.add_argument("--frames", type=int, default=300, help="of the data set")
    parser.add_argument("--rounds", type=int, default=3, help="of each pair, in turns")
    parser.add_argument("--codec", default="av1,h264", help="of the videos; the last one is built from")
    parser.add_argument("--part", default="read,build")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def compare_reading(folder: Path, codec: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Frames a second by way, in turns; the times that ours is faster are of the medians."""
    core = str(max(os.sched_getaffinity(0)))
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "flowlab, 480 x 640": lambda: own_process("ours", folder, core),
        "flowlab, resized to 224 x 224": lambda: own_process("ours-small", folder, core),
    }
    if asked.lerobot:
        for decoder in DECODERS:
            script = [asked.lerobot, "-c", LEROBOT, str(folder), core, decoder]
            ways[f"LeRobot's reader, {decoder}"] = lambda script=script: in_process(script, folder)
    else:
        ways["plain PyAV, a seek for each frame (not LeRobot)"] = lambda: own_process("plain", folder, core)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(asked.rounds):
        for way, read in ways.items():
            found[way].append(read())
    print(f"\n{codec}: {asked.frames} frames of {HEIGHT} x {WIDTH}, one core, in turns, medians of {asked.rounds}")
    print(f"{'way':<48} {'frames/s':>9} {'ours':>6} {'per cpu s':>10} {'ours':>6} {'opening s':>10}")
    ours = found["flowlab, 480 x 640"]
    table: dict[str, Any] = {}
    for way, runs in found.items():
        failed = next((run["error"] for run in runs if "error" in run), None)
        if failed is not None:
            print(f"{way:<48} does not run there: {failed}")
            table[way] = {"error": failed}
            continue
        wall, cpu = speed_of(runs, "seconds"), speed_of(runs, "cpu_s")
        times, cpu_times = speed_of(ours, "seconds") / wall, speed_of(ours, "cpu_s") / cpu
        opening = statistics.median(run["open_s"] for run in runs)
        table[way] = {
            "frames_per_s": wall,
            "ratio": times,
            "frames_per_cpu_s": cpu,
            "cpu_ratio": cpu_times,
            "runs": runs,
        }
        print(f"{way:<48} {wall:>9.1f} {times:>6.2f} {cpu:>10.1f} {cpu_times:>6.2f} {opening:>10.2f}")
    return table


def speed_of(runs: list[dict[str, Any]], clock: str) -> float:
    return statistics.median(run["frames"] / run[clock] for run in runs)


def own_process(worker: str, folder: Path, core: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", f"{worker}:{core}", "--folder", str(folder)]
    return in_process(command, folder)


def in_process(command: list[str], folder: Path) -> dict[str, Any]:
    """What the process tells, or its last line of complaint as `error`."""
    alone = {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "HF_HOME": str(folder.parent / "hf"),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **alone})
    for line in done.stdout.splitlines():
        if line.startswith("RESULT"):
            return json.loads(line.removeprefix("RESULT"))
    lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
    return {"error": next((line for line in lines if "Error" in line), lines[-1])[:160]}


def run_worker(worker: str, folder: Path) -> dict[str, Any]:
    """One pass over all frames, on one core."""
    way, _, core = worker.partition(":")
    os.sched_setaffinity(0, {int(core)})
    if way == "plain":
        return read_plainly(folder)
    height, width = (SMALL, SMALL) if way == "ours-small" else (HEIGHT, WIDTH)
    for module in ("av", "flowlab.drives.lerobot", "flowlab.drives.source"):
        importlib.import_module(module)
    with tempfile.TemporaryDirectory() as study:
        begin = time.perf_counter()
        source = open_folder(folder, Path(study))
        drives = [source.load(drive_id) for drive_id in source.drive_ids()]
        source.images(drives[0], np.arange(1), height, width)
        opened, cpu = time.perf_counter(), time.process_time()
        num = 0
        for drive in drives:
            for first in range(0, len(drive), ROWS):
                rows = np.arange(first, min(first + ROWS, len(drive)))
                num += len(source.images(drive, rows, height, width))
        return told(num, begin, opened, cpu)


def told(num: int, begin: float, opened: float, cpu: float) -> dict[str, Any]:
    seconds, cpu_s = time.perf_counter() - opened, time.process_time() - cpu
    return {"frames": num, "seconds": seconds, "cpu_s": cpu_s, "open_s": opened - begin}


def open_folder(folder: Path, study: Path) -> Any:
    from flowlab.drives.source import open_source
    from flowlab.study.lerobot import LeRobotDrives

    return open_source(LeRobotDrives(source="lerobot", root=str(folder), camera=CAMERA), study)


def read_plainly(folder: Path) -> dict[str, Any]:
    """Seeks to the keyframe before each frame and decodes on from there; the file stays open."""
    import av

    begin = time.perf_counter()
    with av.open(str(video_of(folder))) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        num, step = stream.frames, int(1 / (FPS * stream.time_base))
        opened, cpu = time.perf_counter(), time.process_time()
        for number in range(num):
            container.seek(number * step, stream=stream)
            frame = next(frame for frame in container.decode(stream) if frame.pts >= number * step)
            frame.to_ndarray(format="rgb24")
        return told(num, begin, opened, cpu)


def compare_building(folder: Path, place: Path, codec: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a build, of the bare encoder, and of reading and encoding one after the other, by threads."""
    import torch

    table: dict[str, Any] = {}
    encoder = small_encoder(place / "dinov2")
    print(f"\na cache of {asked.frames} frames ({codec}), DINOv2-small's size at {ENCODED} x {ENCODED}, random weights")
    print(f"{'threads':>7} {'encoder s':>10} {'build s':>8} {'in turn s':>10} {'encoder/build':>14} {'in turn':>8}")
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        torch.set_num_threads(threads)
        runs: dict[str, list[float]] = {"encoder": [], "build": [], "in turn": []}
        blocks = list(read_in_turn(folder))
        encoder.encode_frames(blocks[0][:8])
        for _ in range(asked.rounds):
            runs["encoder"].append(timed(lambda: encode(encoder, blocks)))  # noqa: B023 -- called here
            runs["build"].append(timed(lambda: build(folder, encoder)))
            runs["in turn"].append(timed(lambda: encode(encoder, read_in_turn(folder))))
        middle = {way: statistics.median(seconds) for way, seconds in runs.items()}
        table[str(threads)] = {"seconds": runs, "ratio": middle["encoder"] / middle["build"]}
        table[str(threads)]["in_turn_ratio"] = middle["encoder"] / middle["in turn"]
        shown = f"{middle['encoder']:>10.2f} {middle['build']:>8.2f} {middle['in turn']:>10.2f}"
        ratios = f"{table[str(threads)]['ratio']:>14.2f} {table[str(threads)]['in_turn_ratio']:>8.2f}"
        print(f"{threads:>7} {shown} {ratios}")
    return table


def timed(work: Callable[[], object]) -> float:
    import torch

    begin = time.perf_counter()
    with torch.no_grad():
        work()
    return time.perf_counter() - begin


def encode(encoder: Any, blocks: Any) -> None:
    for block in blocks:
        encoder.encode_frames(block)


def read_in_turn(folder: Path) -> Any:
    """Images block by block, as a build reads them, but nothing ahead."""
    import torch

    from flowlab.drives.read_ahead import BLOCK

    with tempfile.TemporaryDirectory() as study:
        source = open_folder(folder, Path(study))
        for drive in map(source.load, source.drive_ids()):
            for first in range(0, len(drive), BLOCK):
                rows = np.arange(first, min(first + BLOCK, len(drive)))
                yield torch.from_numpy(source.images(drive, rows, ENCODED, ENCODED))


def build(folder: Path, encoder: Any) -> Path:
    from flowlab.cache.build import build_cache
    from flowlab.core.types import Split
    from flowlab.study.settings import WindowSettings

    with tempfile.TemporaryDirectory() as study:
        source = open_folder(folder, Path(study))
        first, *others = source.drive_ids()
        split = Split(train=tuple(others), val=(first,))
        return build_cache(source, split, WindowSettings(), encoder, ("normal",), Path(study) / "caches")


def small_encoder(model: Path) -> Any:
    """A random vision transformer of DINOv2-small's size, as a folder of its own, through flowlab's encoder."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    from flowlab.encoder.huggingface import open_huggingface
    from flowlab.study.huggingface import HuggingFaceSettings
    from flowlab.study.settings import WindowSettings

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=384, num_attention_heads=6, num_hidden_layers=12, image_size=ENCODED, patch_size=14
    )
    Dinov2Model(config).save_pretrained(model)
    told = {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"height": ENCODED, "width": ENCODED},
    }
    told |= {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    told |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (model / "preprocessor_config.json").write_text(json.dumps(told))
    settings = HuggingFaceSettings(kind="huggingface", model=str(model), temporal="none")
    return open_huggingface(settings, model, ("gas", "steering"), False, WindowSettings().history).freeze()


if __name__ == "__main__":
    main()
