"""How long does a small campaign take on two cores, against plain runs two at a time?

Eight runs of one recipe at eight seeds, from `flowlab run` to its last word: processes start, read the cache, train in
cohorts, draw, score, write journals and ledger. The plain way starts a process for each run, two at a time, which reads
the same windows from a .pt file, trains, evaluates and writes weights and one error. Recording, encoder and cache are
made before and not counted. Every process has one thread and gives way (nice) by 5. Processor time is that of all
processes that a way started.

Short runs, so that it ends: what a process costs once weighs more than in a long campaign. One command, some 10 to 15
minutes on two cores; `--sizes tiny` some three.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from made import maneuver_weights
from turns import Row, Times, Told, in_turns, options, turns_of

from flowlab.lab.ground import open_ground, prepare_stats
from flowlab.policy.space_json import space_to_json
from flowlab.study.study import load_study
from flowlab.train.data import train_data
from flowlab.train.validate import validation_data

SEEDS = tuple(range(1001, 1009))
CORES = 2
DECODERS = {
    "tiny": ("width = 16\nlayers = 1", "batch = 16\nsteps = 150\nwarmup_steps = 15\nsample_every = 0"),
    "demo": ("width = 64\nlayers = 3", "batch = 128\nsteps = 40\nwarmup_steps = 10\nsample_every = 0"),
}
STUDY = """
[study]
name = "campaign"
rule = "panel"
primary = { metric = "l1", channel = "steering", slice = "overall", readout = "meank" }
[drives]
source = "synthetic"
count = 8
frames = 300
[split]
num_val = 2
[encoder]
width = 128
image_height = 16
image_width = 16
patch = 8
image_width_tokens = 16
image_layers = 1
temporal_layers = 1
heads = 2
image_steps = 10
window_steps = 20
[cache]
variants = ["normal"]
[control]
version = 2
[control.decoder]
DECODER
[control.train]
TRAIN
lr = 1e-3
[control.evaluation]
draws = 16
solver_steps = 4
[rules.panel]
preset = "panel"
panel_seeds = SEEDS
judged_seeds = SEEDS
guardrails = [{ slice = "overall", margin = 0.004 }]
"""
FLOWLAB = (sys.executable, "-c", "from flowlab.cli.main import main; main()")


def main() -> None:
    asked = options(__doc__.partition("\n")[0], list(DECODERS)).parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    told = Told("campaign", asked, f"s for {len(SEEDS)} runs on {CORES} cores", 1)
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.sizes:
            told.row(measure(Path(folder) / name, name, turns_of(asked)))
    told.end()


def measure(folder: Path, name: str, turns: int) -> Row:
    """Both ways at one size."""
    prepared = prepare(folder, name)
    ways: dict[str, Callable[[], Times]] = {
        "checkpoints": lambda: plain_campaign(folder, prepared, "--checkpoints"),
        "plain": lambda: plain_campaign(folder, prepared),
        "flowlab": lambda: flowlab_campaign(folder),
    }
    taken = in_turns(ways, turns, warm=False)
    return Row(f"campaign of {len(SEEDS)} runs", name, taken["flowlab"], taken["plain"], taken["checkpoints"])


def prepare(folder: Path, name: str) -> Path:
    """The study with its cache, and the file that the plain runs read."""
    decoder, train = DECODERS[name]
    study = folder / "study"
    study.mkdir(parents=True)
    text = STUDY.replace("DECODER", decoder).replace("TRAIN", train).replace("SEEDS", str(list(SEEDS)))
    (study / "experiments.toml").write_text(text)
    call([*FLOWLAB, "cache", "build"], study)
    loaded = load_study(study)
    recipe, cache = loaded.control, open_ground(loaded).frames_cache
    stats = prepare_stats(loaded, cache, recipe)
    train_side, val = (cache.split(side, variants=("normal",)) for side in ("train", "val"))
    data = train_data(train_side.condition["normal"], train_side.action, stats.space, stats.density)
    held = validation_data(val.condition["normal"], val.action, stats.space, recipe.evaluation.bank_seed)
    stored = {
        "recipe": recipe.model_dump_json(),
        "space": json.dumps(space_to_json(stats.space)),
        "windows": (data.condition, data.action, maneuver_weights(recipe, data)),
        "held": (held.condition, held.action, val.action, held.noise, (held.time, torch.sigmoid(held.time_normal))),
    }
    torch.save(stored, folder / "prepared.pt")
    return folder / "prepared.pt"


def flowlab_campaign(folder: Path) -> Times:
    """`flowlab run` in a fresh copy of the study."""
    study = folder / "turn"
    shutil.copytree(folder / "study", study)
    command = [*FLOWLAB, "run", "--lever", "control", "--seeds", ",".join(map(str, SEEDS)), "--device", "cpu"]
    taken = timed_children(lambda: call(command, study))
    done = list(study.glob("runs/*/policy.safetensors"))
    assert len(done) == len(SEEDS), f"{len(done)} of {len(SEEDS)} runs have a policy"
    shutil.rmtree(study)
    return taken


def plain_campaign(folder: Path, prepared: Path, *more: str) -> Times:
    """A process for each run, as many at a time as there are cores."""
    script = str(Path(__file__).with_name("plain_run.py"))

    def run() -> None:
        waiting, going = list(SEEDS), []
        while waiting or going:
            while waiting and len(going) < CORES:
                seed = waiting.pop(0)
                arguments = [script, str(prepared), str(folder / f"{seed}.pt"), str(seed), *more]
                going.append(subprocess.Popen([sys.executable, *arguments]))
            time.sleep(0.02)
            for process in [one for one in going if one.poll() is not None]:
                assert process.returncode == 0, f"a plain run ended with {process.returncode}"
                going.remove(process)

    return timed_children(run)


def timed_children(work: Callable[[], None]) -> Times:
    """Wall time, and the processor time of all processes that it started and that have ended."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Times([wall], [after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime])


def call(command: list[str], folder: Path) -> None:
    """Run it there; what it says is shown if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[-1]}: {done.returncode}\n{done.stdout}\n{done.stderr}"


if __name__ == "__main__":
    main()
