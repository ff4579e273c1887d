"""Where a run took place: recorded with every run, so that a difference between machines can be found later."""

import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

PACKAGES = ("flowlab", "torch", "numpy", "zarr", "duckdb")


def choose_device(wanted: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda". Raises MissingError for cuda where there is none."""
    from flowlab.core.errors import MissingError

    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise MissingError("--device cuda: torch finds no CUDA device here. Use --device cpu, or auto.")
    return torch.device(wanted)


def choose_executor(wanted: str, device: torch.device) -> str:
    """The executor for "auto" or a name: worker processes on a CPU, this process where there is a GPU."""
    if wanted != "auto":
        return wanted
    return "processes" if device.type == "cpu" else "inline"


def describe_environment(device: torch.device) -> dict[str, str]:
    """Versions and hardware as plain text."""
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": processor_name(),
    }
    found |= {name: importlib.metadata.version(name) for name in PACKAGES}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


@cache
def processor_name() -> str:
    """The processor's name as the kernel has it, such as "AMD EPYC 7B13"; else what Python knows, else "unknown"."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []  # not Linux
    facts = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)  # the first processor's win
    told = {key.strip(): value.strip() for key, value in facts.items()}
    found = told.get("model name") or _arm_name(told) or platform.processor() or _apple_name()
    return found or "unknown"


def _arm_name(told: dict[str, str]) -> str:
    """An ARM processor's implementer and part, where it has no name: "ARM 0x41 0xd0c"."""
    implementer, part = told.get("CPU implementer", ""), told.get("CPU part", "")
    return f"ARM {implementer} {part}" if implementer and part else ""


def _apple_name() -> str:
    if platform.system() != "Darwin":
        return ""
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def git_revision(folder: Path) -> str:
    """The commit checked out at `folder`, with "+dirty" when files differ from it; "" where there is no git."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", os.fspath(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
