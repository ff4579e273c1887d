"""Draws with the frames that they are of, and draws for a condition that is no frame's."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from flowlab.core.errors import PolicyError
from flowlab.core.types import NUM_WAYPOINTS
from flowlab.core.vocabulary import MODE_READOUTS, is_bound
from flowlab.evaluate.draw_bank import to_raw
from flowlab.evaluate.frames import ValidationFrames
from flowlab.lab.banks import drawn
from flowlab.lab.checkpoints import Checkpoint
from flowlab.lab.predictions import choose_readout, read_out
from flowlab.study.recipe import EvaluationSettings

VOTES = "vote-"
"""What readouts that look at the order of frames begin with."""

DRIVE = "predict"
"""The drive that conditions are said to be of, which their noise depends on."""


class Draws(np.ndarray):
    """Raw draws (N, K, H, A); whatever is computed or taken of them is a plain array."""

    frames: ValidationFrames | None

    def __array_finalize__(self, made_of: Any) -> None:
        self.frames = None

    def __array_wrap__(self, array: NDArray, context: Any = None, return_scalar: bool = False) -> Any:
        del context
        plain = np.asarray(array)
        return plain[()] if return_scalar else plain

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]

    def __repr__(self) -> str:
        if self.frames is None:
            return repr(np.asarray(self))
        num_frames, num_draws, horizon, _ = self.shape
        return (
            f"{num_frames:,} frames x {num_draws} draws x {horizon} slots of {', '.join(self.frames.channels)}, raw "
            f"{self.dtype}; their frames are in .frames"
        )


def with_frames(draws: NDArray[np.float32], frames: ValidationFrames) -> Draws:
    """The same draws (N, K, H, A), which know their N frames."""
    made = draws.view(Draws)
    made.frames = frames
    made.flags.writeable = False
    return made


def predict(
    checkpoint: Checkpoint, condition: ArrayLike | Tensor, readout: str, num_draws: int | None, seed: int
) -> NDArray[np.float32]:
    """Raw chunks (N, H, A) for conditions (N, S, D), as `OpenRun.predict` says."""
    settings = _settings(checkpoint.evaluation, num_draws, seed)
    frames = _frames_of(checkpoint, _as_seen(checkpoint, condition))
    chosen = choose_readout(checkpoint, readout)
    draws = to_raw(drawn(checkpoint, settings, frames).model, checkpoint.space, frames.horizon)
    needs_more = is_bound(chosen.name) or chosen.name.startswith(VOTES) or chosen.name == MODE_READOUTS[2]
    made = read_out(chosen, draws, frames, settings.clip)
    if needs_more or not np.array_equal(made, read_out(chosen, draws, _made_up_otherwise(frames), settings.clip)):
        raise PolicyError(
            f"readout {readout!r} looks at more than draws and conditions (the truth, the history, the order of "
            f"frames), and a condition alone has none. Use .predictions({readout!r}), or another readout."
        )
    return made


def _settings(settings: EvaluationSettings, num_draws: int | None, seed: int) -> EvaluationSettings:
    """How to draw. Raises PolicyError for numbers of draws or seeds that there are none of."""
    wanted = {"bank_seed": seed} | ({} if num_draws is None else {"draws": num_draws})
    try:
        return EvaluationSettings.model_validate(settings.model_dump() | wanted)
    except ValueError:
        raise PolicyError(
            f"predict got draws {num_draws!r} and seed {seed!r}, expected whole numbers, of draws at least 1 and for "
            f"the seed at least 0. Example: predict(condition, draws=32, seed=0)"
        ) from None


def _as_seen(checkpoint: Checkpoint, condition: ArrayLike | Tensor) -> Tensor:
    """The tokens that the policy sees of a condition that holds these, or all tokens of the run's cache."""
    given = condition if isinstance(condition, Tensor) else torch.from_numpy(np.array(condition, dtype=np.float32))
    given = given.detach().to(checkpoint.device, torch.float32)
    seen, spec = checkpoint.policy.facts.spec, checkpoint.cache.spec
    if given.ndim == 3 and len(given) and given.shape[1:] == (spec.num_tokens, spec.width):
        given = given[:, checkpoint.tokens]
    if given.ndim != 3 or not len(given) or given.shape[1:] != (seen.num_tokens, seen.width):
        raise PolicyError(
            f"predict got a condition of shape {tuple(given.shape)}, expected (N, {seen.num_tokens}, {seen.width}): N "
            f"frames of {seen}. Such are in .frames().condition"
        )
    if not bool(torch.isfinite(given).all()):
        raise PolicyError("predict got a condition with numbers that are not finite. Leave such frames out.")
    return given


def _frames_of(checkpoint: Checkpoint, condition: Tensor) -> ValidationFrames:
    """Frames that have these conditions, and all else made up: who draws needs to know of none of it."""
    cache, num = checkpoint.cache, len(condition)
    history, channels = cache.layouts["val/frame_index"].shape[1], cache.channels
    return ValidationFrames(
        channels=channels,
        truth=np.zeros((num, cache.horizon, len(channels)), np.float32),
        drive=np.zeros(num, np.int64),
        drive_ids=(DRIVE,),
        frame_index=np.arange(num)[:, None] + np.arange(1 - history, 1),
        time_us=100_000 * (np.arange(num)[:, None] + np.arange(1 - history, 1)),
        history_action=np.zeros((num, history, len(channels)), np.float32),
        speed_mps=np.zeros((num, history), np.float32),
        waypoints=None,
        condition=condition,
    )


def _made_up_otherwise(frames: ValidationFrames) -> ValidationFrames:
    """The same conditions with all else made up in another way: each frame of a drive of its own."""
    num = len(frames)
    aside = np.outer(np.arange(1, NUM_WAYPOINTS + 1), [1, 3]).astype(np.float32)
    return replace(
        frames,
        truth=frames.truth + 0.5,
        drive=np.arange(num),
        drive_ids=tuple(f"{DRIVE}-{row}" for row in range(num)),
        frame_index=frames.frame_index + 1000,
        history_action=frames.history_action + 0.5,
        speed_mps=frames.speed_mps + 10,
        waypoints=np.broadcast_to(aside, (num, *aside.shape)),
    )
