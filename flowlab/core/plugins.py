"""The protocols that others may implement, and how a name becomes an object.

A name is looked up in one literal table, then among the entry points of the group `flowlab.<kind>`, then as
`module:attr`.
"""

import importlib
import importlib.metadata
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from flowlab.core.errors import UnknownNameError, unknown_name
from flowlab.core.progress import Progress
from flowlab.core.types import ConditionSpec, Drive

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

TABLE: dict[str, dict[str, str]] = {
    "sources": {
        "carracing": "flowlab.drives.carracing:CarRacingSource",
        "udacity": "flowlab.drives.udacity:UdacitySource",
        "lerobot": "flowlab.drives.lerobot:LeRobotSource",
        "synthetic": "flowlab.drives.synthetic:SyntheticSource",
    },
    "encoders": {
        "drive-vit": "flowlab.encoder.drive_vit:DriveViT",
        "huggingface": "flowlab.encoder.huggingface:HuggingFaceEncoder",
    },
    "objectives": {
        "flow": "flowlab.policy.objectives:FlowMatching",
        "regression": "flowlab.policy.objectives:Regression",
    },
    "executors": {
        "inline": "flowlab.lab.inline:Inline",
        "processes": "flowlab.lab.processes:Processes",
        "ray": "flowlab.lab.ray_cluster:Ray",
    },
    "decoders": {
        "transformer": "flowlab.policy.decoder:Decoder",
        "slot-queries": "flowlab.policy.slot_queries:SlotQueries",
    },
    "readouts": {
        "single": "flowlab.evaluate.readouts:Single",
        "meank": "flowlab.evaluate.readouts:MeanK",
        "mediank": "flowlab.evaluate.readouts:MedianK",
        "mode": "flowlab.evaluate.mode_readouts:Mode",
        "mode-medoid": "flowlab.evaluate.mode_readouts:ModeMedoid",
        "mode-waypoint": "flowlab.evaluate.mode_readouts:ModeWaypoint",
    },
}


@runtime_checkable
class Source(Protocol):
    """Where drives come from. Built as `Source(settings, folder)`; everything it returns is deterministic."""

    channels: tuple[str, ...]
    has_waypoints: bool

    def drive_ids(self) -> list[str]:
        """The drives there are, sorted. Raises DriveError if there is nothing to read, with the next step."""

    def load(self, drive_id: str) -> Drive:
        """One drive without its images. Raises DriveError if it cannot be read at all."""

    def images(self, drive: Drive, rows: "NDArray[np.int64]", height: int, width: int) -> "NDArray[np.uint8]":
        """RGB images (len(rows), height, width, 3) of those rows of `drive`, resized if need be.

        A cache's are asked for in order by one thread of its own, while nothing else is asked of the source.
        """

    def digest(self, drive_id: str) -> str:
        """16 hex digits over the recording's content; part of the cache's identity."""


@runtime_checkable
class Encoder(Protocol):
    """A frozen function from a window to its condition: the image part once per frame, the rest once per window."""

    spec: ConditionSpec
    digest: str  # of the weights and the architecture
    image_height: int
    image_width: int

    def encode_frames(self, images: "torch.Tensor") -> "torch.Tensor":
        """(N, height, width, 3) uint8 -> (N, F) features in float32, on the images' device."""

    def encode_windows(
        self,
        features: "torch.Tensor",  # (B, T, F)
        history_action: "torch.Tensor",  # (B, T, A) raw
        speed_mps: "torch.Tensor",  # (B, T)
        waypoints: "torch.Tensor | None",  # (B, 10, 2) metres
    ) -> "torch.Tensor":
        """The condition (B, S, D) in float32."""


@runtime_checkable
class Executor(Protocol):
    """Where planned runs are trained. Built as `Executor(device)`, a torch.device; `ray` takes an address too."""

    def execute(self, study: Any, ground: Any, runs: list, progress: "Progress") -> None:
        """Train and evaluate every run (lab.plan.PlannedRun) of the study on its ground (lab.ground.Ground).

        Each run's journal says that it finished or crashed once this returns. Raises the first FlowlabError there was,
        after the other runs are done; a process that is killed leaves runs that the same call goes on with.
        """


@runtime_checkable
class Readout(Protocol):
    """How K draws become one chunk: the same each time, for all frames at once, changing nothing that it is given."""

    @property
    def name(self) -> str:
        """Of the metric rows: letters, digits, _ and -. A plain attribute will do."""

    def __call__(self, draws: "NDArray[np.float32]", frames: Any) -> "NDArray[np.float32]":
        """Raw draws (N, K, H, A) for N frames -> one chunk per frame (N, H, A), both float32.

        `frames` are flowlab.evaluate.frames.ValidationFrames: what is known of each frame. Their truth is there to be
        scored against; a readout that looks at it is a bound and no policy.
        """


def locate(kind: str, name: str, where: str = "") -> str:
    """Where `name` among the `kind` plug-ins is, as `module:attr`, without importing it.

    Raises UnknownNameError, which says `where` the name was found.
    """
    if name in TABLE[kind]:
        return TABLE[kind][name]
    entries = {entry.name: entry.value for entry in importlib.metadata.entry_points(group=f"flowlab.{kind}")}
    target = entries.get(name, name)
    if ":" not in target:
        raise unknown_name(kind.removesuffix("s"), name, [*TABLE[kind], *entries], where)
    return target


def resolve(kind: str, name: str) -> Any:
    """The object called `name` among the `kind` plug-ins. Raises UnknownNameError with the nearest name."""
    module_name, _, attribute = locate(kind, name).partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as error:  # whatever a stranger's module does while it is imported
        raise UnknownNameError(
            f"{kind.removesuffix('s')} {name!r} cannot be loaded: {told(error)}. Correct the module, or its name."
        ) from error


def told(error: BaseException) -> str:
    """What went wrong in a plug-in, in one line: the kind of error and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def study_path(root: Path, text: str) -> Path:
    """`text` as a path; a relative one starts at the study's folder."""
    path = Path(os.path.expanduser(text))  # noqa: PTH111 -- Path.expanduser raises for a user that does not exist
    return path if path.is_absolute() else root / path
