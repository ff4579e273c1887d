"""Learned rankers of finished runs: trained on draws of the train split, kept in the run's folder, tied to its policy.

A ranker's file says which policy it was trained for and with which settings; its digest is in the run's journal.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from flowlab.core.digest import canonical_json, digest_files
from flowlab.core.errors import DivergedError, MissingError, PolicyError, StudyError, told_by
from flowlab.core.files import sort_metadata, write_atomic
from flowlab.core.progress import SILENT, Progress
from flowlab.core.seeds import derive_seed
from flowlab.evaluate.frames import ValidationFrames
from flowlab.evaluate.ranked import RankerReadout, draw_errors, ranker_readouts
from flowlab.lab.banks import artifacts, raw_draws
from flowlab.lab.checkpoints import Checkpoint, open_checkpoint
from flowlab.lab.run_dir import RunDir
from flowlab.policy.ranker import Ranker, RankerSizes
from flowlab.study.ranker import RankerSettings, ranker_for
from flowlab.study.recipe import EvaluationSettings
from flowlab.study.selection import SelectionSettings, selection_for
from flowlab.study.study import Study
from flowlab.train.ranker import RankerData, fit_rankers


@dataclass(frozen=True)
class RankerMade:
    """What `train_rankers` has to say of one run. `loss` is None where the ranker was there already."""

    run_id: str
    ranker: str
    file: str
    num_frames: int
    num_draws: int
    loss: float | None
    seconds: float


@dataclass(frozen=True, eq=False)
class OfRun:
    """A run whose draws are ranked, and the settings that rank them, with the channel that they mean."""

    checkpoint: Checkpoint
    settings: RankerSettings
    selection: SelectionSettings | None

    @property
    def name(self) -> str:
        return self.settings.name(self.selection.channel if self.selection else None)

    @property
    def run_id(self) -> str:
        """The run that trained the policy; of a scoring, its source."""
        return self.checkpoint.policy.facts.run_id

    @property
    def path(self) -> Path:
        return self.checkpoint.folder / f"{self.name}.safetensors"

    @property
    def advice(self) -> str:
        """How to get the ranker that is missing or wrong."""
        return f"Train it with the settings that it is to have: flowlab ranker train {self.run_id}"


def open_for_ranking(study: Study, run_id: str, settings: RankerSettings, device: torch.device | None = None) -> OfRun:
    """The run with that id. Raises StudyError for one that has a single draw, and as `open_checkpoint` does."""
    return for_ranking(open_checkpoint(study, run_id, device=device), settings)


def for_ranking(checkpoint: Checkpoint, settings: RankerSettings) -> OfRun:
    """The checkpoint as one whose draws are ranked. Raises StudyError for one that has a single draw."""
    if checkpoint.policy.objective.deterministic:
        raise StudyError(
            f"run {checkpoint.run_id} is deterministic: it has one draw a frame, and nothing to choose among. "
            f"Name runs of a policy that draws, such as a flow."
        )
    if checkpoint.evaluation.draws == 1:
        raise StudyError(
            f"run {checkpoint.run_id} is evaluated by one draw a frame (evaluation.draws = 1): there is nothing to "
            f"choose among. Evaluate it with more draws."
        )
    channels = checkpoint.cache.channels
    selection = selection_for(checkpoint.study.file.selection, channels)
    meant = ranker_for(settings, selection.channel if selection else None, channels)
    return OfRun(checkpoint, meant, selection)


def train_rankers(
    study: Study,
    run_ids: Sequence[str],
    settings: RankerSettings,
    device: torch.device,
    progress: Progress = SILENT,
) -> list[RankerMade]:
    """A ranker for each run that has none of these settings; runs of one cache and shape train as one cohort.

    Each gets the bits that it would get alone. A cohort's files are written once it is trained, each whole; what is
    interrupted before begins anew. All runs are looked at before the first is trained.
    """
    runs = [open_for_ranking(study, run_id, settings, device) for run_id in run_ids]
    made = {run.run_id: _there(run) for run in runs}
    cohorts: dict[Any, list[OfRun]] = {}
    for run in runs:
        if made[run.run_id] is None:
            key = (run.checkpoint.cache.cache_id, tuple(run.checkpoint.tokens))
            cohorts.setdefault(key, []).append(run)
    with _one_thread(device):
        for cohort in cohorts.values():
            made |= {one.run_id: one for one in _train_cohort(cohort, progress)}
    return [one for run_id in dict.fromkeys(run_ids) if (one := made[run_id]) is not None]


def load_ranker(run: OfRun) -> Ranker:
    """The run's ranker of these settings, a cohort of one on the checkpoint's device.

    Raises MissingError if there is none, PolicyError for a file that the run's journal does not name, that is of
    another policy or of other settings, or whose weights do not fit.
    """
    tensors, metadata = _read(run)
    _require_own(run, metadata)
    on_record = artifacts(run.checkpoint.folder).get(run.path.name)
    if digest_files([run.path]) != on_record:
        raise PolicyError(
            f"{run.path} is not the file that the run's journal {'names' if on_record else 'would name: it names none'}"
            f"; it was changed, or comes from elsewhere. {run.advice}"
        )
    spec, cache = run.checkpoint.policy.facts.spec, run.checkpoint.cache
    sizes = RankerSizes(run.settings.width, spec.num_tokens, spec.width, cache.horizon, len(cache.channels))
    ranker = Ranker(1, sizes)
    try:
        ranker.load_state_dict({name: value.unsqueeze(0) for name, value in tensors.items()})
    except RuntimeError as error:
        raise PolicyError(
            f"{run.path} does not fit a ranker of its settings ({told_by(error)}). {run.advice}"
        ) from None
    return ranker.to(run.checkpoint.device).eval()


def readouts_of(run: OfRun) -> list[RankerReadout]:
    """The readouts of the run's ranker, by the protocol core.plugins.Readout. Raises as `load_ranker` does."""
    return ranker_readouts(load_ranker(run), run.settings, run.selection)


def train_draws(run: OfRun, frames: ValidationFrames, progress: Progress = SILENT) -> NDArray[np.float32]:
    """Raw draws (N, K, H, A) for train frames, made as the run's evaluation makes them, from noise of their own."""
    return raw_draws(run.checkpoint, _draw_settings(run), frames, progress)


def _draw_settings(run: OfRun) -> EvaluationSettings:
    bank_seed = derive_seed(run.checkpoint.record["seed"], "ranker", "draws")
    own = run.checkpoint.recipe.evaluation  # as the policy was trained, however it is scored now
    return own.model_copy(update={"draws": run.settings.draws, "bank_seed": bank_seed})


def _train_cohort(cohort: list[OfRun], progress: Progress) -> Iterator[RankerMade]:
    begin, first = time.perf_counter(), cohort[0]
    settings, device = first.settings, first.checkpoint.device
    frames = first.checkpoint.frames("train")
    if len(frames) > settings.frames:
        frames = frames.take(np.arange(settings.frames) * len(frames) // settings.frames)
    draws, errors = [], []
    for run in cohort:
        own = train_draws(run, frames, progress)
        if not np.isfinite(own).all():
            raise DivergedError(f"run {run.run_id} has draws that are not finite: nothing can rank them.")
        draws.append(own)
        clip = run.checkpoint.recipe.evaluation.clip
        errors.append(draw_errors(own, frames, settings.looked_at, clip).astype(np.float32))
    data = RankerData(
        frames.condition, torch.from_numpy(np.stack(draws)).to(device), torch.from_numpy(np.stack(errors)).to(device)
    )
    trained = fit_rankers(data, settings, [run.checkpoint.record["seed"] for run in cohort], progress)
    seconds = (time.perf_counter() - begin) / len(cohort)
    for position, (run, loss) in enumerate(zip(cohort, trained.losses, strict=True)):
        _save(run, trained.ranker.run_tensors(position))
        yield RankerMade(run.run_id, run.name, run.path.name, len(frames), settings.draws, loss, seconds)


def _save(run: OfRun, tensors: dict[str, torch.Tensor]) -> None:
    """Write the run's ranker, whole or not at all, and put it on record."""
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    content = sort_metadata(safetensors.torch.save(whole, _metadata(run)))
    with RunDir(run.checkpoint.folder) as out:
        write_atomic(run.path, content)
        digest = digest_files([run.path])
        if artifacts(run.checkpoint.folder).get(run.path.name) != digest:
            out.journal.artifact(run.path.name, digest, len(content))


def _metadata(run: OfRun) -> dict[str, str]:
    """What a ranker's file says: of which policy it is, and all that it was trained with."""
    checkpoint = run.checkpoint
    return {
        "kind": "ranker",
        "policy_digest": checkpoint.policy_digest,
        "run_id": run.run_id,
        "settings": canonical_json(run.settings.trained_with()),
        "condition": canonical_json(checkpoint.policy.facts.spec.to_json()),
        "channels": canonical_json(list(checkpoint.cache.channels)),
        "horizon": str(checkpoint.cache.horizon),
        "draws": canonical_json(_draw_settings(run).model_dump(mode="json")),
    }


def _there(run: OfRun) -> RankerMade | None:
    """What there is to say of a ranker that is there already and can be used; None otherwise."""
    try:
        load_ranker(run)
    except (MissingError, PolicyError):
        return None
    num_frames = min(run.settings.frames, run.checkpoint.cache.num_windows("train"))
    return RankerMade(run.run_id, run.name, run.path.name, num_frames, run.settings.draws, None, 0.0)


def _read(run: OfRun) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    if not run.path.is_file():
        there = sorted(path.stem for path in run.checkpoint.folder.glob("ranker*.safetensors"))
        raise MissingError(
            f"run {run.run_id} has no ranker of these settings, {run.path.name}; it has "
            f"{', '.join(there) or 'none'}. {run.advice}"
        )
    try:
        with safe_open(run.path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise PolicyError(f"{run.path} is not a readable ranker: {told_by(error)}. {run.advice}") from None


def _require_own(run: OfRun, metadata: dict[str, str]) -> None:
    """Raises PolicyError for the first thing that a ranker's file says and this run or its settings do not."""
    for name, expected in _metadata(run).items():
        got = metadata.get(name, "nothing")
        if got == expected:
            continue
        if name == "policy_digest":
            raise PolicyError(
                f"{run.path} was trained for the policy {got} of run {metadata.get('run_id')}, and that of run "
                f"{run.run_id} is {expected}: a ranker is of one policy alone. {run.advice}"
            )
        told, wanted = _differing(got, expected)
        raise PolicyError(f"{run.path} has {name} {told}, expected {wanted}. {run.advice}")


def _differing(got: str, expected: str) -> tuple[str, str]:
    """Two values of metadata for a sentence; of two tables only what differs."""
    try:
        one, other = json.loads(got), json.loads(expected)
    except ValueError:
        return got, expected
    if not isinstance(one, dict) or not isinstance(other, dict):
        return got, expected
    keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    told, wanted = (", ".join(f"{key} = {of.get(key)}" for key in keys) for of in (one, other))
    return told, wanted


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU one thread, as runs are trained: more of them would round otherwise in a cohort than alone."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
