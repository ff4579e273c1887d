"""Looks at a finished run: opens its checkpoint, asks one question, adds the numbers to the run, draws the picture."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.core.errors import DivergedError, unknown_name
from flowlab.core.files import write_atomic
from flowlab.core.progress import SILENT, Progress
from flowlab.core.vocabulary import DIAGNOSES
from flowlab.evaluate.diagnose.attribution import attribution
from flowlab.evaluate.diagnose.diagnosis import Diagnosis
from flowlab.evaluate.diagnose.fan import fan
from flowlab.evaluate.diagnose.field import field
from flowlab.evaluate.diagnose.history import WITHOUT, history
from flowlab.evaluate.diagnose.horizon import horizon
from flowlab.evaluate.diagnose.integrators import integrators
from flowlab.evaluate.diagnose.page import page
from flowlab.evaluate.diagnose.rank import rank
from flowlab.evaluate.diagnose.rollout import rollout
from flowlab.evaluate.diagnose.route import require_route, route
from flowlab.evaluate.diagnose.subject import Subject, evenly, first_of_each
from flowlab.evaluate.frames import cover, read_frames
from flowlab.lab.banks import raw_draws
from flowlab.lab.checkpoints import Checkpoint, find_runs, open_checkpoint
from flowlab.lab.eyes import open_eyes
from flowlab.lab.late_rows import add_rows
from flowlab.study.selection import selection_for
from flowlab.study.slices import slices_for
from flowlab.study.study import Study

MOST_FRAMES = {"field": 256, "integrators": 256, "attribution": 2048}
"""How many of the validation frames, evenly spread, a diagnosis takes that asks the policy many times; else all."""


@dataclass(frozen=True)
class Diagnosed:
    """A diagnosis of a run, how many of its rows the run did not have yet, and where the picture is."""

    run_id: str
    diagnosis: Diagnosis
    num_new: int
    picture: Path


def diagnose(
    study: Study,
    name: str,
    run: str,
    device: torch.device | None = None,
    *,
    most_frames: int | None = None,
    picture: Path | None = None,
    progress: Progress = SILENT,
) -> Diagnosed:
    """One diagnosis of the run whose id begins with `run`. Its rows go to the run, its picture to `picture`.

    With `most_frames` it is taken over no more than these frames, and nothing is written to the run: other frames give
    other numbers. Without a `picture` it lies in the run's folder.
    """
    (run_id,) = find_runs(study, [run])
    checkpoint = open_checkpoint(study, run_id, device=device)
    whole = subject_of(study, checkpoint)
    rows = chosen_rows(whole, name, most_frames)
    subject = whole if rows is None else whole.take(rows)
    found = _ask(name, checkpoint, subject, progress)
    if not all(np.isfinite(row.value) for row in found.rows):
        raise DivergedError(
            f"run {run_id}: what diagnose {name} measures is not finite. Look at its draws: diagnose fan"
        )
    num_new = add_rows(study, run_id, found.rows) if most_frames is None else 0
    some = "" if most_frames is None else f"-{most_frames}-frames"
    path = picture or study.runs / run_id / f"diagnose-{name}{some}.html"
    write_atomic(path, page(found, _facts(study, checkpoint, subject)).encode())
    return Diagnosed(run_id, found, num_new, path)


def subject_of(study: Study, checkpoint: Checkpoint) -> Subject:
    """The run's policy, asked about the validation frames that it was scored on."""
    frames, policy = checkpoint.frames(), checkpoint.policy
    return Subject(
        run_id=checkpoint.run_id,
        decoder=policy.decoder,
        objective=policy.objective,
        space=checkpoint.space,
        settings=checkpoint.evaluation,
        frames=frames,
        slices=slices_for(study.file.slices, frames.channels),
        channel=channel_of(study, frames.channels),
        spec=policy.facts.spec,
    )


def channel_of(study: Study, channels: tuple[str, ...]) -> str:
    """The channel that is looked at most closely: that of [selection], else the primary's, else the last one."""
    selection = selection_for(study.file.selection, channels)
    if selection is not None:
        return selection.channel
    primary = study.file.study.primary.channel
    return primary if primary in channels else channels[-1]


def chosen_rows(subject: Subject, name: str, most_frames: int | None) -> NDArray[np.int64] | None:
    """Which frames a diagnosis takes; None for all. A rollout takes the first ones of each drive, in a row."""
    most = most_frames or MOST_FRAMES.get(name)
    if most is None:
        return None
    if name == "rollout":
        return first_of_each(subject.frames.drive, subject.frames.now, most)
    return evenly(len(subject.frames), most)


def _ask(name: str, checkpoint: Checkpoint, subject: Subject, progress: Progress) -> Diagnosis:
    """The diagnosis itself. What it has no use for is told before the policy is asked."""
    match name:
        case "fan":
            subject.require_draws(name)
            return fan(subject, raw_draws(checkpoint, subject.settings, subject.frames, progress))
        case "horizon":
            return horizon(subject, raw_draws(checkpoint, subject.settings, subject.frames, progress))
        case "field":
            return field(subject)
        case "integrators":
            return integrators(subject, progress)
        case "history":
            return history(subject, _without_history(checkpoint, subject), progress)
        case "rollout":
            return rollout(subject, open_eyes(checkpoint, subject.frames, progress), progress)
        case "route":
            require_route(subject)
            return route(subject, raw_draws(checkpoint, subject.settings, subject.frames, progress))
        case "rank":
            return rank(subject.frames.condition, subject.spec, progress)
        case "attribution":
            return attribution(subject, progress)
    raise unknown_name("diagnosis", name, DIAGNOSES)


def _without_history(checkpoint: Checkpoint, subject: Subject) -> torch.Tensor:
    """The condition of the same frames in the variant no-history. Raises MissingError where the cache lacks it."""
    split = checkpoint.split("val", (WITHOUT,))
    split = replace(split, condition={"normal": split.condition[WITHOUT]})
    frames = read_frames(split, checkpoint.cache.channels, tokens=checkpoint.tokens)
    return frames.condition[cover(subject.frames, frames)]


def _facts(study: Study, checkpoint: Checkpoint, subject: Subject) -> dict[str, str]:
    """What of which run, for the head of a page."""
    record, settings = checkpoint.record, subject.settings
    return {
        "run": checkpoint.run_id,
        "study": study.name,
        "lever": f"{record['lever']} at seed {record['seed']}",
        "frames": f"{len(subject.frames):,} of {len(np.unique(subject.frames.drive))} drives",
        "evaluated by": f"{settings.draws} draws, {settings.solver}/{settings.solver_steps}",
        "cache": checkpoint.cache.cache_id,
    }
