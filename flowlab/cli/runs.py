"""`flowlab run` and `flowlab stack`."""

from dataclasses import asdict
from typing import Annotated

import typer

from flowlab.cli import judge
from flowlab.cli.options import (
    Device,
    DeviceOption,
    Executor,
    JsonOption,
    StudyOption,
    open_study,
    parse_levers,
    parse_seeds,
    tell_idle_keys,
)
from flowlab.cli.screen import Bars, print_json, say
from flowlab.core.errors import StudyError


def run(
    lever: Annotated[
        str | None, typer.Option(help='The lever to try, or several with commas between them, or "control".')
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds with commas between them: 1001,1002.")] = None,
    owed: Annotated[bool, typer.Option("--owed", help="Instead: exactly the runs that the rule wants next.")] = False,
    optional: Annotated[
        bool, typer.Option("--optional", help="With --owed: the runs that tell what stacked levers are worth, instead.")
    ] = False,
    study: StudyOption = None,
    device: DeviceOption = Device.auto,
    executor: Annotated[
        Executor,
        typer.Option(
            "--executor", help="Who trains: processes (one a core), inline (this one); auto: processes on a CPU."
        ),
    ] = Executor.auto,
    again: Annotated[
        bool, typer.Option("--again", help="Train the lever once more where the ledger has it already.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train levers at some seeds, with what the comparison lacks: the control at these seeds and the rule's panel."""
    if owed and (lever is not None or seeds is not None or again):
        raise StudyError("--owed asks the rule what to run, so leave --lever, --seeds and --again out.")
    if optional and not owed:
        raise StudyError("--optional goes with --owed: flowlab run --owed --optional")
    if not owed and (lever is None or seeds is None):
        raise StudyError(
            "give --lever and --seeds, or --owed. Example: flowlab run --lever delta-off --seeds 1001,1002"
        )
    chosen_seeds = parse_seeds(seeds or "0")
    found = open_study(study)
    levers = parse_levers(lever, found) if lever is not None else []

    from flowlab.cli.rule_screen import show_foretold
    from flowlab.lab.launch import Where, launch, launch_optional, launch_owed
    from flowlab.verdict.record import record_decisions

    bars, where = Bars(), Where.chosen(device.value, executor.value)
    for chosen in levers:
        tell_idle_keys(found, chosen)
    if owed:
        launch_them = launch_optional if optional else launch_owed
        result = launch_them(found, where, progress=bars, show=show_foretold, announce=announce)
    else:
        result = launch(
            found,
            levers,
            chosen_seeds,
            where,
            again=again,
            progress=bars,
            show=show_foretold,
            announce=announce,
        )
    for problem in result.problems:
        say(f"warning: {problem}")
    record_decisions(found.runs, found.ledger)
    if as_json:
        verdicts = judge.read_for(found, levers)
        print_json({"levers": levers, "runs": result.run_ids, "trained": result.trained, "verdicts": verdicts})
    else:
        judge.print_verdicts(found, levers)


def stack(
    lever: Annotated[str, typer.Argument(metavar="LEVER", help="The lever that goes into the base.")],
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a lever into the control, if the rule says `stack` of it; otherwise say what is missing."""
    from flowlab.lab.stacking import stack as put_on_stack
    from flowlab.verdict.record import record_decisions

    found = open_study(study)
    stacked = put_on_stack(found, lever, Bars())
    record_decisions(found.runs, found.ledger)
    if as_json:
        print_json(asdict(stacked))
        return
    flattered = "" if stacked.flattered_by is None else f" by about {stacked.flattered_by:.4f} under this rule"
    say(
        f"{lever} is stacked: the base is now control -> {' -> '.join(stacked.stacked)}. Its effect was selected, and "
        f"is flattered{flattered}; what it is worth tell new seeds of both bases: flowlab run --owed --optional. The "
        f"old panel does not serve the new base. It is owed one, and a replicate at seed {stacked.replicate_seed}: "
        f"flowlab run --owed"
    )


def announce(planned: list) -> None:
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
