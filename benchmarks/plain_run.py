"""The plain way's whole run: trained, validated each epoch, evaluated at the end. For screen.py and campaign.py.

As a script, `plain_run.py FILE OUT SEED [--checkpoints]`, it is what a plain campaign starts once for each of its runs:
FILE is what campaign.py prepares; OUT gets the weights and, beside them, the error as JSON.
"""

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from plain import PlainRun, Windows, sample
from torch import Tensor

from flowlab.policy.action_space import ActionSpace
from flowlab.policy.space_json import space_from_json
from flowlab.study.recipe import EvaluationSettings, Recipe

ROWS = 1024  # frames times draws that the sampler takes at a time
NICENESS = 5  # as flowlab's workers have it, so that both give way alike


@dataclass(frozen=True)
class Held:
    """N validation frames with the noise and flow times of their error, which never change."""

    condition: Tensor  # (N, S, D) fp16
    action: Tensor  # (N, H, M) model space
    raw: Tensor  # (N, H, A)
    noise: Tensor  # (N, H, M)
    times: tuple[Tensor, Tensor]  # two of (N,): evenly spread, and by the training law


def plain_screen(
    recipe: Recipe, windows: Windows, held: Held, space: ActionSpace, seed: int, device: torch.device, checkpoints: bool
) -> tuple[PlainRun, Tensor]:
    """A trained run, and the mean |error| of its draws' mean by channel (A,)."""
    run = PlainRun(recipe, windows, seed, device, checkpoints)
    per_epoch = len(run.loader)
    for step in range(recipe.train.steps):
        run.step()
        if (step + 1) % per_epoch == 0 or step + 1 == recipe.train.steps:
            validation_error(run, held)
    return run, evaluate(run, held, space, recipe.evaluation)


@torch.no_grad()
def validation_error(run: PlainRun, held: Held) -> list[float]:
    """The velocity's error on the validation frames, at either kind of flow times."""
    run.model.eval()
    errors = []
    for t in held.times:
        at = t[:, None, None]
        v = run.model((1 - at) * held.noise + at * held.action, t, held.condition.float())
        errors.append((v - (held.action - held.noise)).square().mean().item())
    run.model.train()
    return errors


def evaluate(run: PlainRun, held: Held, space: ActionSpace, settings: EvaluationSettings) -> Tensor:
    """The mean |error| of the mean of each frame's draws, by raw channel (A,)."""
    model = run.model.eval()
    generator = torch.Generator().manual_seed(settings.bank_seed)
    errors = []
    for rows in torch.arange(len(held.action)).split(max(1, ROWS // settings.draws)):
        noise = torch.randn(len(rows), settings.draws, *held.action.shape[1:], generator=generator).to(run.device)
        draws = sample(model, held.condition[rows], noise, settings.solver, settings.solver_steps)
        raw = space.to_raw(draws.flatten(0, 1)).unflatten(0, draws.shape[:2])
        errors.append((raw.mean(dim=1) - held.raw[rows]).abs())
    return torch.cat(errors).mean(dim=(0, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("--checkpoints", action="store_true")
    asked = parser.parse_args()
    os.nice(NICENESS)
    torch.set_num_threads(1)
    stored: dict[str, Any] = torch.load(asked.file, weights_only=True)
    recipe, space = Recipe.model_validate_json(stored["recipe"]), space_from_json(json.loads(stored["space"]))
    windows, held = Windows(*stored["windows"]), Held(*stored["held"])
    run, error = plain_screen(recipe, windows, held, space, asked.seed, torch.device("cpu"), asked.checkpoints)
    torch.save(run.model.state_dict(), asked.out)
    asked.out.with_suffix(".json").write_text(json.dumps(error.tolist()))


if __name__ == "__main__":
    main()
