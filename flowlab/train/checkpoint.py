"""What of a run lies on disk: its policies, and while it trains what it needs to go on. All without the run axis."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flowlab.core.digest import digest_parts
from flowlab.core.errors import MissingError, ResumeError, told_by
from flowlab.core.files import sort_metadata, write_atomic
from flowlab.policy.decoder import AnyDecoder, run_weights

POLICY_FILE = "policy.safetensors"
RESUME_FILE = "resume.safetensors"


@dataclass(frozen=True)
class Resume:
    """A run as it was after `step` steps."""

    step: int
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    average: dict[str, Tensor] = field(default_factory=dict)  # of the weights, where the run keeps one


def rung_file(step: int) -> str:
    """The name of the policy that is kept after `step` steps on the way."""
    return f"policy-{step:06d}.safetensors"


def rung_steps(folder: Path) -> list[int]:
    """After how many steps the policies were kept that lie in a run's folder, ascending; without the last policy."""
    names = [path.stem.removeprefix("policy-") for path in folder.glob("policy-*.safetensors")]
    return sorted(int(name) for name in names if name.isdigit())


def policy_of(decoder: AnyDecoder, run: int) -> dict[str, Tensor]:
    """All that one run's policy consists of: parameters and buffers. They are views: copy before training goes on."""
    return {**run_weights(decoder, run), **decoder.run_buffers(run)}


def save_policy(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Write one run's weights, whole or not at all, and return the bytes that were written."""
    content = safetensors.torch.save({name: w.cpu().contiguous() for name, w in weights.items()}, metadata)
    content = sort_metadata(content)
    write_atomic(path, content)
    return content


def load_policy(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """One run's weights and metadata. Raises MissingError when there is no readable policy at `path`."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise MissingError(
            f"{path} is not a readable policy: {told_by(error)}. Run it again: flowlab run --again."
        ) from None


def save_resume(path: Path, resume: Resume, run_id: str) -> None:
    """Write what a run needs to go on after a kill, whole or not at all, and whose it is."""
    kinds = {"weight": resume.weights, "moment": resume.moments, "average": resume.average}
    tensors = {
        f"{kind}.{name}": value.cpu().contiguous() for kind, values in kinds.items() for name, value in values.items()
    }
    metadata = {"run_id": run_id, "step": str(resume.step), "digest": _digest(run_id, resume.step, tensors)}
    write_atomic(path, sort_metadata(safetensors.torch.save(tensors, metadata)))


def load_resume(path: Path, run_id: str, num_steps: int) -> Resume | None:
    """What `save_resume` wrote for that run of so many steps; None if there is no file.

    Raises ResumeError for a file that is not as it was written, or is another run's: the run has to start anew.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        step, owner, digest = int(metadata["step"]), metadata["run_id"], metadata["digest"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        raise ResumeError(f"{path.name} of run {run_id} cannot be read") from None
    if digest != _digest(owner, step, tensors):
        raise ResumeError(f"{path.name} of run {run_id} is not what was written")
    if owner != run_id or not 0 < step <= num_steps:
        raise ResumeError(f"{path.name} of run {run_id} is of run {owner} after {step} steps, not of {num_steps}")

    def of(kind: str) -> dict[str, Tensor]:
        prefix = f"{kind}."
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    return Resume(step, of("weight"), of("moment"), of("average"))


def _digest(run_id: str, step: int, tensors: dict[str, Tensor]) -> str:
    """16 hex digits over the state of a run: names, types, shapes and bytes of its tensors, and whose it is when."""

    def parts() -> Iterator[bytes | memoryview]:
        yield f"{run_id}\0{step}".encode()
        for name, value in sorted(tensors.items()):
            yield f"\0{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode()
            yield value.contiguous().reshape(-1).view(torch.uint8).numpy().data

    return digest_parts(parts())
