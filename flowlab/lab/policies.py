"""Policies that a run has kept, its last one and the rungs on the way, brought back so that they can be scored.

A file says all that this needs: recipe, condition spec, slots and channels are its metadata.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flowlab.core.digest import canonical_json, digest_files
from flowlab.core.errors import MissingError, PolicyError, told_by
from flowlab.core.types import ConditionSpec
from flowlab.journal.journal import RUN_JOURNAL, last_word
from flowlab.lab.registered import artifacts
from flowlab.policy.build import build_decoder, build_objective
from flowlab.policy.decoder import AnyDecoder
from flowlab.policy.objectives import Objective
from flowlab.study.recipe import Recipe
from flowlab.study.versions import read_recorded
from flowlab.train.checkpoint import POLICY_FILE, load_policy, policy_of, rung_file, rung_steps

NAMES = ("run_id", "recipe", "condition", "horizon", "channels", "step")


@dataclass(frozen=True)
class Facts:
    """What a policy is and sees. `spec`: the tokens that its decoder is shown; `channels`: the model channels."""

    run_id: str
    recipe: Recipe
    spec: ConditionSpec
    horizon: int
    channels: tuple[str, ...]

    def to_metadata(self, step: int) -> dict[str, str]:
        """The metadata of the policy after `step` steps; `from_metadata` reads them back."""
        return {
            "run_id": self.run_id,
            "recipe": canonical_json(self.recipe.to_json()),
            "condition": canonical_json(self.spec.to_json()),
            "horizon": str(self.horizon),
            "channels": canonical_json(self.channels),
            "step": str(step),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "Facts":
        """Raises KeyError, TypeError or ValueError for metadata that are not as written."""
        return cls(
            metadata["run_id"],
            Recipe.model_validate(read_recorded(json.loads(metadata["recipe"]))),
            ConditionSpec.from_json(json.loads(metadata["condition"])),
            int(metadata["horizon"]),
            tuple(json.loads(metadata["channels"])),
        )


@dataclass(frozen=True)
class KeptPolicy:
    """A policy ready to draw, after `step` steps: decoder and objective with a run axis of one run."""

    facts: Facts
    step: int
    decoder: AnyDecoder
    objective: Objective

    def __repr__(self) -> str:
        facts, num = self.facts, sum(value[0].numel() for _, value in self.decoder.named_stacked())
        return (
            f"policy of run {facts.run_id} after {self.step} steps: {facts.recipe.objective.kind}, "
            f"{facts.recipe.decoder.kind} of {num:,} parameters; sees {facts.spec}; predicts {facts.horizon} slots of "
            f"{', '.join(facts.channels)} in model space"
        )


def load_policy_of(run: Path, step: int | None = None, device: torch.device | None = None) -> KeptPolicy:
    """The policy that lies in the folder of a run: the last one, or that after `step` steps.

    Raises MissingError if the run did not keep it, PolicyError for a file that does not say what it is, or whose
    weights are not those of its recipe's decoder.
    """
    path, device = policy_path(run, step), device or torch.device("cpu")
    _require_on_record(path)
    weights, metadata = load_policy(path)
    lacking = [name for name in NAMES if name not in metadata]
    if lacking:
        raise PolicyError(
            f"{path} does not say its {' and '.join(lacking)}, so nobody knows what it draws from: an earlier flowlab, "
            f"or another tool, wrote it. Train the run once more: flowlab run --again."
        )
    try:
        facts, done = Facts.from_metadata(metadata), int(metadata["step"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise PolicyError(
            f"{path} says what it is in words that this flowlab does not read ({type(error).__name__}: "
            f"{told_by(error)}). Train the run once more: flowlab run --again."
        ) from None
    if facts.run_id != run.name or not 0 < done <= facts.recipe.train.steps:
        raise PolicyError(
            f"{path} is of run {facts.run_id} after {done} steps of {facts.recipe.train.steps}, expected one of "
            f"{run.name}. Train the run once more: flowlab run --again."
        )
    settings = facts.recipe.decoder
    decoder = build_decoder(settings, facts.spec, facts.horizon, len(facts.channels), [0], device)
    _put(path, policy_of(decoder, 0), weights)
    return KeptPolicy(facts, done, decoder, build_objective([facts.recipe], facts.horizon, device))


def _require_on_record(path: Path) -> None:
    """Raises PolicyError unless the file is the one whose digest the run's journal has."""
    on_record = artifacts(path.parent)
    if digest_files([path]) != on_record.get(path.name):
        names = "names" if path.name in on_record else "would name: it names none"
        raise PolicyError(
            f"{path} is not the file that the run's journal {names}; it was changed, or comes from elsewhere. Train "
            f"the run once more: flowlab run --again."
        )


def policy_path(run: Path, step: int | None) -> Path:
    """Where that policy lies. The last one may be asked for by its step too."""
    last, kept = run / POLICY_FILE, rung_steps(run)
    if step is not None and step in kept:
        return run / rung_file(step)
    if last.is_file() and (step is None or load_policy(last)[1].get("step") == str(step)):
        return last
    there = [f"after {one} steps" for one in kept] + ["the last one"] * last.is_file()
    crashed = ": it crashed" if last_word(run / RUN_JOURNAL) == "crashed" else ""
    wanted = "no last policy" if step is None else f"no policy after {step} steps"
    raise MissingError(
        f"run {run.name} has {wanted}{crashed}. It has {', '.join(there) or 'none'}; train.keep_every says how often "
        f"one is kept on the way."
    )


@torch.no_grad()
def _put(path: Path, places: dict[str, Tensor], weights: dict[str, Tensor]) -> None:
    """Copy the weights to their places. Raises PolicyError unless there is one for each, of the same shape and kind."""
    expected, found = ({name: (tuple(of.shape), of.dtype) for name, of in each.items()} for each in (places, weights))
    if expected != found:
        name = min(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        one, other = (f"{of[name][0]} in {of[name][1]}" if name in of else "none" for of in (found, expected))
        raise PolicyError(
            f"{path}: {name} is {one}, and the decoder of its recipe has {other}: the file is not of that recipe, or a "
            f"plug-in has changed. Train the run once more: flowlab run --again."
        )
    for name, place in places.items():
        place.copy_(weights[name])
