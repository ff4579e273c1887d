"""A finished run's policy stitched to the frozen encoder of its cache, and validation windows to feed it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import PluginError
from flowlab.encoder.drive_vit import DriveViT
from flowlab.encoder.huggingface import HuggingFaceEncoder
from flowlab.evaluate.bank import noise
from flowlab.lab.checkpoints import Checkpoint
from flowlab.lab.eyes import inputs_of
from flowlab.lab.origins import Origin, open_origin
from flowlab.policy.stitched import Stitched
from flowlab.study.settings import WindowSettings

WHO = "an export"

Feed = dict[str, NDArray]
"""By its name, each input of a stitched policy, with the frames' axis first."""


@dataclass(frozen=True, eq=False)
class Exportable:
    """What is exported of a run: its policy, what it sees through, and the windows that it was trained on."""

    checkpoint: Checkpoint
    origin: Origin
    policy: Stitched
    windows: WindowSettings


def stitch(checkpoint: Checkpoint) -> Exportable:
    """The run's policy over its encoder, on the checkpoint's device.

    Raises MissingError or CacheMismatchError for an encoder that is not there, or not the cache's.
    """
    inputs = inputs_of(checkpoint)
    origin = open_origin(checkpoint.study, checkpoint.cache, inputs, checkpoint.device, WHO)
    kept = checkpoint.policy
    policy = Stitched(
        origin.encoder,
        kept.decoder,
        kept.objective,
        checkpoint.space,
        checkpoint.tokens,
        checkpoint.cache.horizon,
        checkpoint.evaluation,
    )
    return Exportable(checkpoint, origin, policy, inputs.windows)


def require_own_encoder(exportable: Exportable) -> DriveViT | HuggingFaceEncoder:
    """The encoder, if it is one whose weights flowlab knows how to write. Raises PluginError for a plug-in's."""
    encoder = exportable.origin.encoder
    if isinstance(encoder, DriveViT | HuggingFaceEncoder):
        return encoder
    raise PluginError(
        f"the encoder of run {exportable.checkpoint.run_id} is a plug-in ({type(encoder).__name__}), and only its "
        f"author knows what it consists of, so no folder can hold it. Try one graph: --onnx FILE"
    )


def sample_feed(exportable: Exportable, num_windows: int, num_draws: int) -> Feed:
    """Validation windows of the run, evenly spread, as its stitched policy takes them, with noise of the noise bank.

    Raises MissingError or CacheMismatchError for a recording that is gone, or not the one it was trained with.
    """
    checkpoint, origin = exportable.checkpoint, exportable.origin
    every = checkpoint.frames()
    frames = every.take(np.unique(np.linspace(0, len(every) - 1, num_windows).astype(np.int64)))
    size = (origin.encoder.image_height, origin.encoder.image_width)
    images = np.empty((*frames.frame_index.shape, *size, 3), np.uint8)
    for position in np.unique(frames.drive):
        drive = origin.load(frames.drive_ids[position])
        own = frames.drive == position
        rows, place = np.unique(origin.rows_of(drive, frames.frame_index[own]), return_inverse=True)
        images[own] = origin.source.images(drive, rows, *size)[place.reshape(-1, images.shape[1])]
    decoder = checkpoint.policy.decoder
    bank = noise(
        frames.frame_drives,
        frames.now,
        num_draws=num_draws,
        horizon=checkpoint.cache.horizon,
        num_channels=decoder.num_channels,
        bank_seed=checkpoint.evaluation.bank_seed,
    )
    feed = {
        "images": images,
        "history_action": frames.history_action,
        "speed_mps": frames.speed_mps,
        "noise": np.ascontiguousarray(bank[:, :, : decoder.horizon]),
    }
    return feed if frames.waypoints is None else feed | {"waypoints": frames.waypoints}


def describe_feed(exportable: Exportable) -> dict[str, dict[str, object]]:
    """Each input and the output by name: shape, type, unit and meaning, for who has nothing else."""
    checkpoint, encoder = exportable.checkpoint, exportable.origin.encoder
    history, decoder = exportable.windows.history, checkpoint.policy.decoder
    channels = list(checkpoint.cache.channels)
    found: dict[str, dict[str, object]] = {
        "images": {
            "shape": ["batch", history, encoder.image_height, encoder.image_width, 3],
            "type": "uint8",
            "means": "RGB frames of the window in time order, the last one is now; resized to this size beforehand, "
            "bilinear with anti-aliasing (Pillow's BILINEAR), and not normalised: the policy does that",
        },
        "history_action": {
            "shape": ["batch", history, len(channels)],
            "type": "float32",
            "channels": channels,
            "means": "raw actions at these frames, the last one is now's",
        },
        "speed_mps": {
            "shape": ["batch", history],
            "type": "float32",
            "unit": "metres per second",
            "means": "speed at these frames",
        },
        "noise": {
            "shape": ["batch", "draws", decoder.horizon, decoder.num_channels],
            "type": "float32",
            "channels": list(checkpoint.space.channels),
            "means": "standard normal numbers, other ones for each draw and each frame",
        },
        "actions": {
            "shape": ["batch", "draws", checkpoint.cache.horizon, len(channels)],
            "type": "float32",
            "channels": channels,
            "means": "the output: raw actions of the next frames, slot 1 is the frame after now; one chunk for each "
            "draw, not clipped to any actuator's range; the mean over draws is the readout `meank`",
        },
    }
    if exportable.origin.source.has_waypoints:
        found["waypoints"] = {
            "shape": ["batch", 10, 2],
            "type": "float32",
            "unit": "metres",
            "means": "the route ahead in the car's frame at now: x forward, y left",
        }
    return found
