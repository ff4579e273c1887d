"""`flowlab run` and `flowlab status`."""

from typing import Annotated

import typer

from flowlab.cli import judge
from flowlab.cli.options import Device, DeviceOption, JsonOption, StudyOption, open_study, parse_levers, parse_seeds
from flowlab.cli.screen import Bars, out, print_json, say, table


def run(
    lever: Annotated[str, typer.Option(help='The lever to try, or several with commas between them, or "control".')],
    seeds: Annotated[str, typer.Option(help="Seeds with commas between them: 1001,1002.")],
    study: StudyOption = None,
    device: DeviceOption = Device.auto,
    again: Annotated[
        bool, typer.Option("--again", help="Train the lever once more where the ledger has it already.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train levers at some seeds, with what the comparison lacks: the control at these seeds and the rule's panel."""
    chosen_seeds = parse_seeds(seeds)
    found = open_study(study)
    levers = parse_levers(lever, found)

    from flowlab.lab.comparison import compare

    result = compare(found, levers, chosen_seeds, device.value, again=again, progress=Bars(), announce=_announce)
    for problem in result.problems:
        say(f"warning: {problem}")
    if as_json:
        verdicts = judge.read_for(found, levers)
        print_json({"levers": levers, "runs": result.run_ids, "trained": result.trained, "verdicts": verdicts})
    else:
        judge.print_verdicts(found, levers)


def _announce(planned: list) -> None:
    """Say before it starts what will be trained and why, and what is there already."""
    waiting = [item for item in planned if not item.done]
    done = len(planned) - len(waiting)
    kept = f"; the ledger has the other {done}" if done and waiting else ""
    if not waiting:
        say(f"all {done} runs of this comparison are in the ledger: nothing to train (--again replicates a lever)")
        return
    say(f"{len(waiting)} runs to train{kept}:")
    for item in waiting:
        say(f"  {item.run.lever} @ {item.run.seed}: {item.why}")


def status(study: StudyOption = None, as_json: JsonOption = False) -> None:
    """Every run the study knows, and how far it is."""
    from flowlab.lab.progress import read_status

    found = open_study(study)
    runs = read_status(found)
    if as_json:
        print_json(runs)
        return
    rows = [
        [run["run_id"], run["status"], f"{run['last_step'] or 0}/{run['steps']}", run["num_attempts"], run["reason"]]
        for run in runs
    ]
    out().print(table(["run", "status", "step", "attempts", "why"], rows, f"runs of study {found.name}"))
