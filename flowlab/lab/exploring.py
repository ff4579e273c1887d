"""Exploratory runs: a change from the prompt, recorded like any run, and never judged.

They need no sealed rule, train no panel and no control, and change nothing of what the rule wants: the base that they
stand on is not put on record.
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flowlab.core.errors import FlowlabError, StudyError
from flowlab.core.progress import Progress
from flowlab.core.vocabulary import CONTROL, EXPLORATORY
from flowlab.lab.ground import Ground, open_ground
from flowlab.lab.launch import Launched, carry_out, note_caches, read_statuses
from flowlab.lab.plan import PlannedRun, identify
from flowlab.lab.sealing import rule_for
from flowlab.lab.where import Where
from flowlab.ledger.ingest import ingest
from flowlab.study.lever import flat_keys
from flowlab.study.settings import LeverSettings
from flowlab.study.study import Study, require_sound
from flowlab.train.cohort import Run
from flowlab.verdict.seal import register_design, rules_in_force

LONGEST_NAME = 80
BARE_WORD = re.compile(r"[A-Za-z][\w./-]*")
WHY = "exploratory: recorded, never judged"


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """Changes by dotted key, from texts such as "train.lr=2e-3": values as in TOML, and a bare word is a text.

    Raises StudyError for anything else, and for a key given twice.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        key, mark, value = (part.strip() for part in text.partition("="))
        if not mark or not key or not value:
            raise StudyError(f"--set got {text!r}, expected KEY=VALUE. Example: --set train.lr=2e-3")
        if key in changes:
            raise StudyError(f"--set gives {key} twice. Keep one of them.")
        changes[key] = _value_of(key, value)
    return changes


def _value_of(key: str, text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        if BARE_WORD.fullmatch(text):
            return text
        raise StudyError(
            f"--set {key} got {text!r}, expected a value as in experiments.toml. Examples: --set train.lr=2e-3, "
            f'--set decoder.gate=gelu, --set "train.betas=[0.9, 0.99]"'
        ) from None
    if list(found) != ["value"]:
        raise StudyError(f"--set {key} got {text!r}, expected one value. Give each key its own --set.")
    return found["value"]


def with_changes(study: Study, changes: Mapping[str, Any], start: str = CONTROL) -> tuple[Study, str]:
    """The study with one lever more, made of `changes` on those of the lever `start`, and that lever's name.

    The name has a dot, since every key has one, and no lever of experiments.toml may have a dot in its name. Raises
    as a lever of the file does, with --set in its place.
    """
    settings = LeverSettings(set={}) if start == CONTROL else study.file.levers[start]
    before = {key: value for key, value in flat_keys(settings.set) if key not in changes}
    name = name_of_change(changes, start)
    lever = settings.model_copy(update={"set": before | dict(changes), "hypothesis": ""})
    levers = study.file.levers | {name: lever}
    explored = replace(study, file=study.file.model_copy(update={"levers": levers}))
    try:
        require_sound(f"levers.{name}", explored.setup(name))
    except FlowlabError as error:
        told = str(error).replace(f"levers.{name}.set", "--set").replace(f"levers.{name} sets", "--set sets")
        raise type(error)(told.replace(f"levers.{name}", "--set")) from None
    return explored, name


def name_of_change(changes: Mapping[str, Any], start: str) -> str:
    """The name of a change: that of the lever that it starts from, if any, then its keys and values."""
    parts = [f"{key}-{value if isinstance(value, str) else repr(value)}" for key, value in changes.items()]
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts)).strip("-.")
    return f"{'' if start == CONTROL else f'{start}-'}set-{text}"[:LONGEST_NAME].rstrip("-.")


def plan_explored(
    study: Study, ground: Ground, lever: str, seeds: Sequence[int], statuses: Mapping[str, str]
) -> list[PlannedRun]:
    """The runs of an exploratory lever; `statuses` maps run ids to their status in the ledger."""
    recipe = study.recipe(lever)
    ids = {identify(study, ground, lever, seed): seed for seed in seeds}
    return [
        PlannedRun(Run(run_id, lever, seed, recipe), 0, WHY, statuses.get(run_id, ""), EXPLORATORY)
        for run_id, seed in ids.items()
    ]


def explore(
    study: Study,
    lever: str,
    seeds: Sequence[int],
    where: Where,
    progress: Progress,
    announce: Callable[[list[PlannedRun]], None],
) -> Launched:
    """Train the exploratory `lever` of `with_changes` at `seeds`, unless that is done, and bring it into the ledger.

    Seeds of a rule that is not on record yet are about to be seen: its design is put on record before.
    """
    for problem in ingest(study.ledger, study.runs, progress).problems:
        progress.say(f"warning: {problem}")
    ground = open_ground(study, [lever], where.device, progress)
    note_caches(study, ground)
    rule = rule_for(study, ground)
    if not rules_in_force(study.ledger) and set(seeds) & {*rule.panel_seeds, *rule.judged_seeds}:
        register_design(rule, study.runs, study.ledger, ground.base.base_id)
    planned = plan_explored(study, ground, lever, seeds, read_statuses(study))
    return carry_out(study, ground, planned, where, progress, announce)
