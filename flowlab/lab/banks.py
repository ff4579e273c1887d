"""The draws of a checkpoint under an evaluation: those that are kept, where they are what they say, or drawn anew."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowlab.core.digest import digest_json
from flowlab.core.errors import DrawBankError
from flowlab.core.progress import SILENT, Progress
from flowlab.evaluate.draw_bank import BANK_FILE, DrawBank, as_kept, bank_of, digest_bank, read_bank, to_raw
from flowlab.evaluate.draws import draw_model
from flowlab.evaluate.frames import ValidationFrames
from flowlab.lab.checkpoints import Checkpoint
from flowlab.lab.registered import artifacts
from flowlab.policy.action_space import ActionSpace
from flowlab.policy.space_json import space_to_json
from flowlab.study.recipe import EvaluationSettings


def tell_draws(whose: Mapping[str, Any], settings: EvaluationSettings, space: ActionSpace) -> dict[str, Any]:
    """What a bank says of itself, for people and for `kept_draws`: whose draws they are, and how they were made.

    `whose`: study, run_id, lever, seed, step and policy_digest.
    """
    made = {"evaluation": of_draws(settings), "action_space": space_to_json(space)}
    return {**whose, "model_channels": list(space.channels), **made}


def of_draws(settings: EvaluationSettings) -> dict[str, Any]:
    """What of an evaluation draws depend on: all but what is done with them afterwards."""
    return settings.model_dump(mode="json", exclude={"clip"})


def bank_name(wanted: dict[str, Any], frames: ValidationFrames) -> str:
    """The name of the bank of draws that are not those the run ended with."""
    return f"draws-{digest_json(wanted | {'frames': frames.digest()})[:8]}.zarr"


def kept_draws(
    folder: Path, wanted: dict[str, Any], frames: ValidationFrames, progress: Progress = SILENT
) -> DrawBank | None:
    """The draws for these frames that lie in a run's folder; None if there are none, or not for all of the frames.

    `wanted` is what a bank has to say: its policy_digest, and what the draws depend on. Draws whose files are not those
    that the run's journal names are passed over, and that is said.
    """
    on_record = artifacts(folder)
    for name in (BANK_FILE, bank_name(wanted, frames)):
        path = folder / name
        if not path.exists():
            continue
        try:
            bank = read_bank(path)
        except DrawBankError:
            continue  # of an earlier flowlab, or damaged: what is drawn anew takes its place
        if any(bank.told.get(key) != value for key, value in wanted.items()):
            continue
        if digest_bank(path) != on_record.get(name):
            progress.say(f"{path} is not what the run's journal names: its draws are made anew")
            continue
        rows = bank.rows_of(frames)
        if rows is not None:
            return bank.take(rows)
    return None


def draws_of(
    checkpoint: Checkpoint,
    settings: EvaluationSettings,
    frames: ValidationFrames | None = None,
    progress: Progress = SILENT,
) -> DrawBank:
    """The draws for these frames (the run's own validation frames without them): those kept, else drawn anew.

    Nothing is written. What is drawn is rounded as it would be kept, so that both give the same numbers.
    """
    frames = checkpoint.frames() if frames is None else frames
    wanted = {"policy_digest": checkpoint.policy_digest, "evaluation": of_draws(settings)}
    return kept_draws(checkpoint.folder, wanted, frames, progress) or drawn(checkpoint, settings, frames, progress)


def drawn(
    checkpoint: Checkpoint, settings: EvaluationSettings, frames: ValidationFrames, progress: Progress = SILENT
) -> DrawBank:
    """The draws for these frames, made now and rounded as they are kept."""
    policy = checkpoint.policy
    (model,) = draw_model(policy.objective, policy.decoder, frames, settings, progress)
    told = tell_draws(checkpoint.whose, settings, checkpoint.space)
    return bank_of(as_kept(model, settings.precision), frames, told)


def raw_draws(
    checkpoint: Checkpoint,
    settings: EvaluationSettings,
    frames: ValidationFrames | None = None,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """The draws of `draws_of` as raw chunks (N, K, H, A)."""
    bank = draws_of(checkpoint, settings, frames, progress)
    horizon = checkpoint.cache.horizon if frames is None else frames.horizon
    return to_raw(bank.model, checkpoint.space, horizon)
