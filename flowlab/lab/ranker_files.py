"""A run's learned rankers on disk: which run and settings a ranker is of, kept in the run's folder, tied to its policy.

A ranker's file says which policy it was trained for and with which settings; its digest is in the run's journal.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from flowlab.core.digest import canonical_json, digest_files
from flowlab.core.errors import MissingError, PolicyError, StudyError, told_by, unknown_name
from flowlab.core.files import sort_metadata, write_atomic
from flowlab.core.seeds import derive_seed
from flowlab.evaluate.ranked import RankerReadout, ranker_readouts, readout_names
from flowlab.lab.checkpoints import Checkpoint, open_checkpoint
from flowlab.lab.registered import artifacts
from flowlab.lab.run_dir import RunDir
from flowlab.policy.ranker import Ranker, RankerSizes
from flowlab.study.ranker import RANKER, READ_OUT, RankerSettings, ranker_for
from flowlab.study.recipe import EvaluationSettings
from flowlab.study.selection import SelectionSettings, selection_for
from flowlab.study.study import Study


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


def draw_settings(run: OfRun) -> EvaluationSettings:
    """How a run's draws of its train frames are made: as its own, from noise of their own."""
    bank_seed = derive_seed(run.checkpoint.record["seed"], "ranker", "draws")
    own = run.checkpoint.recipe.evaluation  # as the policy was trained, however it is scored now
    return own.model_copy(update={"draws": run.settings.draws, "bank_seed": bank_seed})


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


def find_readout(checkpoint: Checkpoint, name: str) -> RankerReadout:
    """The readout of that name, such as ranker-top1-width256, by whichever of the run's rankers has it.

    Temperature and the number of the best are those of the table [ranker]. Raises UnknownNameError where no ranker in
    the run's folder has it, and as `load_ranker` does.
    """
    known: list[str] = []
    for path in sorted(checkpoint.folder.glob(f"{RANKER}*.safetensors")):
        try:
            told = json.loads(_open(path)[1]["settings"])
            read_out = checkpoint.study.file.ranker.model_dump(include=set(READ_OUT))
            run = for_ranking(checkpoint, RankerSettings.model_validate(told | read_out))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            continue  # it is told where it is asked for by its settings
        names = readout_names(run.settings, run.selection)
        if name in names:
            return next(one for one in readouts_of(run) if one.name == name)
        known += names
    raise unknown_name("readout", name, known, f"the rankers of run {checkpoint.policy.facts.run_id}")


def save_ranker(run: OfRun, tensors: dict[str, torch.Tensor]) -> None:
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
        "draws": canonical_json(draw_settings(run).model_dump(mode="json")),
    }


def _read(run: OfRun) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    if not run.path.is_file():
        there = sorted(path.stem for path in run.checkpoint.folder.glob("ranker*.safetensors"))
        raise MissingError(
            f"run {run.run_id} has no ranker of these settings, {run.path.name}; it has "
            f"{', '.join(there) or 'none'}. {run.advice}"
        )
    try:
        return _open(run.path)
    except (OSError, SafetensorError) as error:
        raise PolicyError(f"{run.path} is not a readable ranker: {told_by(error)}. {run.advice}") from None


def _open(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


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
