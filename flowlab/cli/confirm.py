"""`flowlab confirm`: a recipe trained once more with the encoder in the loop, beside its run from the cache."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowlab.cli.options import Device, DeviceOption, JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, out, print_json, say, table
from flowlab.core.vocabulary import CONTROL

if TYPE_CHECKING:
    from flowlab.lab.full_path import Confirmed

STACK = "stack"


def confirm(
    lever: Annotated[
        str, typer.Argument(metavar="LEVER|stack", help="A lever on the present base, or the base itself.")
    ],
    seed: Annotated[
        int | None, typer.Option(help="Which cached run it is compared with; without it, the first of the rule's.")
    ] = None,
    study: StudyOption = None,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """Train a recipe once more with its encoder in the loop, frames to actions, beside its run from the cache."""
    found = open_study(study)

    from flowlab.lab.full_path import confirm as confirm_path
    from flowlab.lab.where import Where
    from flowlab.ledger.ingest import require_writable

    require_writable(found.ledger, found.runs)
    is_base = lever == CONTROL or (lever == STACK and STACK not in found.levers)
    where = Where.chosen(device.value, "inline")
    confirmed = confirm_path(found, None if is_base else lever, seed, where, progress=Bars(), announce=announce)
    if as_json:
        primary = confirmed.primary.model_dump(mode="json")
        print_json(asdict(confirmed) | {"primary": primary, "difference": confirmed.difference})
        return
    _show(confirmed)


def announce(planned: list) -> None:
    """Say before it starts what will be trained, or that it is there."""
    for item in planned:
        told = "is in the ledger" if item.done else "is trained with the encoder in the loop, which is slow"
        say(f"{item.run.run_id}, {item.why}, {told}")


def _show(confirmed: "Confirmed") -> None:
    rows: list[list[Any]] = [
        ["from the cache", confirmed.cached_run_id, confirmed.cached],
        ["full path", confirmed.run_id, confirmed.full_path],
        ["difference", "", confirmed.difference],
        ["panel sd", f"{confirmed.panel_count} controls" if confirmed.panel_count else "", confirmed.panel_sd],
    ]
    title = f"{confirmed.lever} @ {confirmed.seed}"
    out().print(table(["", "run", confirmed.primary.shown()], rows, title))
    out().print(confirmed.told(), soft_wrap=True)
