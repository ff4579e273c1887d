"""`flowlab init` and `flowlab demo`: how a study begins."""

from pathlib import Path
from typing import Annotated

import typer

import flowlab
from flowlab.cli import prepare, runs
from flowlab.cli.options import Device, DeviceOption, Executor, StudyOption
from flowlab.cli.screen import Bars, say
from flowlab.core.errors import MissingError, StoppedError
from flowlab.core.files import write_atomic
from flowlab.study.study import FILE_NAME, find_study

DEMO_FOLDER = "flowlab-demo"
DEMO_LEVER = "delta-off"
DEMO_SEEDS = "1001,1002,1003,1004"  # the rule stacks this lever by then


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new study's folder.")],
    source: Annotated[
        str, typer.Option(help="Where drives come from: carracing, udacity, lerobot or synthetic.")
    ] = "carracing",
    root: Annotated[str | None, typer.Option(help="The folder of recordings, for sources that read one.")] = None,
) -> None:
    """Write experiments.toml for a new study.

    Recordings are looked at first, so that split, windows, sizes, slices and levers fit them.
    """
    from flowlab.lab.inits import start_study

    try:
        path = start_study(folder, source, root, progress=Bars())
    except KeyboardInterrupt:
        raise StoppedError("No study is written: the same command begins anew.") from None
    say(f"wrote {path}. Read it, then: cd {folder} && flowlab cache build")


def demo(study: StudyOption = None, device: DeviceOption = Device.auto) -> None:
    """Do it all once: record, train the encoder, build the cache, run the panel and delta-off, print the verdict."""
    root = study if study is not None else _demo_folder()
    say(f"the demo study is {root / FILE_NAME}")
    prepare.cache_build(lever=None, study=root, device=device, as_json=False)
    runs.run(
        lever=DEMO_LEVER,
        seeds=DEMO_SEEDS,
        owed=False,
        optional=False,
        study=root,
        device=device,
        executor=Executor.auto,
        again=False,
        as_json=False,
    )
    say('\nnow try: flowlab verdict, flowlab status, flowlab sql "select * from verdicts"')


def _demo_folder() -> Path:
    """The study around us, or a new folder with the demo's experiments.toml."""
    try:
        return find_study(Path.cwd())
    except MissingError:
        folder = Path.cwd() / DEMO_FOLDER
        if not (folder / FILE_NAME).exists():
            write_atomic(folder / FILE_NAME, _demo_file().read_bytes())
        return folder


def _demo_file() -> Path:
    """The demo's experiments.toml: inside the installed package, or at the top of the repository."""
    package = Path(flowlab.__file__).parent
    installed = package / "study" / "demo.toml"
    return installed if installed.is_file() else package.parent / FILE_NAME
