"""What of a run lies on disk: its policies, and while it trains what it needs to go on. All without the run axis."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flowlab.core.errors import MissingError
from flowlab.core.files import write_atomic
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
    content = _in_one_spelling(content)
    write_atomic(path, content)
    return content


def _in_one_spelling(content: bytes) -> bytes:
    """The same file with its metadata in order: safetensors shuffles them, and equal policies should be equal bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


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
