"""What of a run lies on disk: its policy, and while it trains what it needs to go on. Both without the run axis."""

from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flowlab.core.errors import MissingError
from flowlab.core.files import write_atomic

POLICY_FILE = "policy.safetensors"
RESUME_FILE = "resume.safetensors"


@dataclass(frozen=True)
class Resume:
    """A run as it was after `step` steps."""

    step: int
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    average: dict[str, Tensor] = field(default_factory=dict)  # of the weights, where the run keeps one


def save_policy(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Write one run's weights, whole or not at all, and return the bytes that were written."""
    content = safetensors.torch.save({name: w.cpu().contiguous() for name, w in weights.items()}, metadata)
    write_atomic(path, content)
    return content


def load_policy(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """One run's weights and metadata. Raises MissingError when there is no readable policy at `path`."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise MissingError(f"{path} is not a readable policy: {error}. Run it again: flowlab run --again.") from None


def save_resume(path: Path, resume: Resume) -> None:
    """Write what a run needs to go on after a kill, whole or not at all."""
    kinds = {"weight": resume.weights, "moment": resume.moments, "average": resume.average}
    tensors = {f"{kind}.{name}": value for kind, values in kinds.items() for name, value in values.items()}
    content = safetensors.torch.save(
        {name: value.cpu().contiguous() for name, value in tensors.items()}, {"step": str(resume.step)}
    )
    write_atomic(path, content)


def load_resume(path: Path) -> Resume | None:
    """What `save_resume` wrote, or None when there is none or it cannot be read: the run then starts anew."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            step = int(file.metadata()["step"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None

    def of(kind: str) -> dict[str, Tensor]:
        prefix = f"{kind}."
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    return Resume(step, of("weight"), of("moment"), of("average"))
