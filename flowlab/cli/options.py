"""Options that several commands share, and how their text becomes values."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flowlab.cli.screen import say
from flowlab.core.errors import StudyError
from flowlab.study.settings import LARGEST_SEED
from flowlab.study.study import CONTROL, Study, find_study, load_study


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Executor(StrEnum):
    auto = "auto"
    inline = "inline"
    processes = "processes"
    ray = "ray"


StudyOption = Annotated[
    Path | None,
    typer.Option(
        "--study", metavar="DIR", help="The study's folder; without it, the nearest one with experiments.toml."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of tables.")]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to compute; auto takes a GPU if there is one.")]

ExecutorOption = Annotated[
    Executor,
    typer.Option(
        "--executor",
        help="Who trains: processes (one a core), inline (this one), ray (a cluster); auto: processes on a CPU.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="HOST:PORT", help="With --executor ray: the cluster, or auto; else this machine alone."
    ),
]


def open_study(folder: Path | None) -> Study:
    """The study that a command is about. Plug-ins may be modules that lie beside its experiments.toml."""
    study = load_study(folder if folder is not None else find_study(Path.cwd()))
    sys.path.append(str(study.root))
    return study


def tell_idle_keys(study: Study, lever: str) -> None:
    """Say of a lever that it, or a part of it, changes nothing that the control does not have already, or hardly."""
    if lever == CONTROL:
        return
    twin = study.twin_keys(lever)
    if twin:
        say(
            f"note: lever {lever} changes {', '.join(twin)} by less than a millionth: it is a twin of the control, "
            f"and what it shows is chance"
        )
    if not study.idle_keys(lever):
        return
    idle = ", ".join(study.idle_keys(lever))
    if study.setup(lever).to_json() == study.base.to_json():
        say(f"note: lever {lever} sets {idle} to what the control has already: it changes nothing, like a placebo")
    else:
        say(f"note: lever {lever} sets {idle} to what the control has already")


def parse_levers(text: str, study: Study, option: str = "--lever") -> list[str]:
    """Levers from "delta-off,lds-off". Raises UnknownNameError for one that the study lacks, StudyError for a twin."""
    levers = [part.strip() for part in text.split(",")]
    for lever in levers:
        study.recipe(lever)
    if len(set(levers)) < len(levers):
        raise StudyError(f"{option} got {text!r}, which names a lever twice. Example: {option} delta-off,lds-off")
    return levers


def parse_seeds(text: str) -> list[int]:
    """Seeds from "1001,1002". Raises StudyError for anything else, and for a seed given twice."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= len(str(LARGEST_SEED)) for part in parts):
        raise StudyError(
            f"--seeds got {text!r}, expected whole numbers of at most {len(str(LARGEST_SEED))} digits with commas "
            f"between them. Example: --seeds 1001,1002"
        )
    seeds = [int(part) for part in parts]
    if len(set(seeds)) < len(seeds):
        raise StudyError(f"--seeds got {text!r}, which names a seed twice. Example: --seeds 1001,1002")
    return seeds
