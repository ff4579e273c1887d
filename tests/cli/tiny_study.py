"""A study that goes through the true command line in seconds: synthetic drives, a tiny encoder, tiny decoders."""

import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

TINY = """
[study]
name = "tiny"
rule = "panel"
primary = { metric = "l1", channel = "steering", slice = "spike_frame", readout = "meank" }

[drives]
source = "synthetic"
count = 4
frames = 120

[split]
num_val = 1

[encoder]
width = 16
image_height = 16
image_width = 16
patch = 8
image_width_tokens = 16
image_layers = 1
temporal_layers = 1
heads = 2
image_steps = 10
window_steps = 20
image_batch = 16
window_batch = 16

[control.decoder]
width = 16
layers = 1
heads = 2

[control.train]
batch = 64
steps = STEPS
warmup_steps = 5
lr = 1e-3

[control.evaluation]
draws = 4
solver_steps = 2

[levers.delta-off]
set = { "objective.delta_weight" = 0.0 }

[levers.placebo]
set = {}

[rules.panel]
preset = "panel"
panel_seeds = [1001, 1002]
judged_seeds = [1001, 1002]
guardrails = [{ slice = "flat_frame", margin = 0.004 }]
"""


def write_tiny(folder: Path, steps: int = 20) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiments.toml").write_text(TINY.replace("STEPS", str(steps)))
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from flowlab.cli.main import main; main()", *arguments]


def hear_ctrl_c() -> None:
    """For what a test interrupts: a shell's background jobs are deaf to it, and so is what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def flowlab(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a flowlab command in `folder`; it must end with exit code `code` and without a traceback."""
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


def flowlab_here(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The same within this process, for tests of many commands: it spares them importing torch each time.

    Runs are trained in this process too, unless an executor is named, and rules are simulated on fewer levers: neither
    changes what a run or a rule says.
    """
    from flowlab.cli.main import run_command

    inline = ["--executor", "inline"] if arguments[0] in ("run", "loop") and "--executor" not in arguments else []
    here = Path.cwd()
    with (
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as err,
        patch("flowlab.lab.sealing.NUM_LEVERS", 1000),
        patch("flowlab.verdict.panel_size.LEVERS_PER_SIZE", 1000),
    ):
        os.chdir(folder)
        try:
            found = run_command([*arguments, *inline])
        finally:
            os.chdir(here)
    assert found == code, f"{arguments}: {found}\n{out.getvalue()}\n{err.getvalue()}"
    return subprocess.CompletedProcess(arguments, found, out.getvalue(), err.getvalue())


def ask(folder: Path, question: str) -> list[dict[str, Any]]:
    """The ledger's answer to one question, as records."""
    return json.loads(flowlab_here(folder, "sql", question, "--json").stdout)
