"""`flowlab run` and `flowlab stack`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flowlab.cli import judge
from flowlab.cli.options import (
    AddressOption,
    Device,
    DeviceOption,
    Executor,
    ExecutorOption,
    JsonOption,
    StudyOption,
    open_study,
    parse_levers,
    parse_seeds,
    tell_idle_keys,
)
from flowlab.cli.screen import Bars, out, print_json, say, table
from flowlab.core.errors import StudyError
from flowlab.study.study import CONTROL, Study

if TYPE_CHECKING:
    from flowlab.lab.dry_run import Asked
    from flowlab.lab.launch import Launched
    from flowlab.lab.where import Where


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
    executor: ExecutorOption = Executor.auto,
    address: AddressOption = None,
    again: Annotated[
        bool, typer.Option("--again", help="Train the lever once more where the ledger has it already.")
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Instead: an exploratory run of this change. It is recorded, never judged.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, and how long that takes; change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train levers at some seeds, with what the comparison lacks: the control at these seeds and the rule's panel."""
    _require_one_question(lever, seeds, owed, optional, again, changes)
    chosen_seeds = parse_seeds(seeds) if seeds is not None else []
    found = open_study(study)
    levers = parse_levers(lever, found) if lever is not None else []

    from flowlab.cli.rule_screen import show_foretold
    from flowlab.lab.launch import launch, launch_optional, launch_owed
    from flowlab.lab.where import Where

    bars, where = Bars(), Where.chosen(device.value, executor.value, address)
    if changes:
        found, levers = _with_changes(found, changes, levers)
        chosen_seeds = chosen_seeds or [(found.rule.panel_seeds or found.rule.judged_seeds)[0]]
    for chosen in levers:
        tell_idle_keys(found, chosen)
    if dry_run:
        asked: Asked = "explored" if changes else "optional" if optional else "owed" if owed else "levers"
        _foresee(found, asked, levers, chosen_seeds, again, where, as_json)
        return
    if changes:
        _explore(found, levers[0], chosen_seeds, where, bars, as_json)
        return
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
    _tell_result(found, levers, result, as_json)


def _require_one_question(
    lever: str | None, seeds: str | None, owed: bool, optional: bool, again: bool, changes: list[str] | None
) -> None:
    """Raises StudyError for options that do not go together."""
    if owed and (lever is not None or seeds is not None or again):
        raise StudyError("--owed asks the rule what to run, so leave --lever, --seeds and --again out.")
    if optional and not owed:
        raise StudyError("--optional goes with --owed: flowlab run --owed --optional")
    if changes and (owed or again):
        raise StudyError(
            "--set tries a change that no rule asks for, so leave --owed and --again out. Example: flowlab run --set "
            "train.lr=2e-3 --seeds 1001"
        )
    if not owed and not changes and (lever is None or seeds is None):
        raise StudyError(
            "give --lever and --seeds, or --owed. Example: flowlab run --lever delta-off --seeds 1001,1002"
        )


def _with_changes(study: Study, texts: list[str], levers: list[str]) -> tuple[Study, list[str]]:
    """The study with the lever that --set makes, on the one that --lever names or the control, and its name."""
    from flowlab.lab.exploring import parse_changes, with_changes

    if len(levers) > 1:
        raise StudyError(f"--set starts from one lever, got {', '.join(levers)}. Give one, or leave --lever out.")
    explored, name = with_changes(study, parse_changes(texts), levers[0] if levers else CONTROL)
    return explored, [name]


def _foresee(
    study: Study, asked: "Asked", levers: list[str], seeds: list[int], again: bool, where: "Where", as_json: bool
) -> None:
    from flowlab.cli.dry_run import foreseen_json, print_foreseen
    from flowlab.lab.dry_run import Question, foresee

    foreseen = foresee(study, Question(asked, tuple(levers), tuple(seeds), again), where)
    if as_json:
        print_json(foreseen_json(foreseen))
    else:
        print_foreseen(foreseen)


def _explore(study: Study, lever: str, seeds: list[int], where: "Where", bars: Bars, as_json: bool) -> None:
    """Train an exploratory lever, and show its primary number: no rule has anything to say of it."""
    from flowlab.lab.exploring import explore
    from flowlab.verdict.compare import final_numbers

    result = explore(study, lever, seeds, where, bars, announce)
    for problem in result.problems:
        say(f"warning: {problem}")
    primary = study.rule.primary
    values = final_numbers(study.ledger, primary, result.run_ids)
    numbers = [{"run_id": run_id, "value": values.get(run_id)} for run_id in result.run_ids]
    if as_json:
        print_json({"levers": [lever], "runs": result.run_ids, "trained": result.trained, "primary": numbers})
        return
    out().print(table(["exploratory run", primary.shown()], [list(number.values()) for number in numbers]))
    say(f"recorded, and never judged. Beside another: flowlab compare OTHER-RUN {result.run_ids[0]}")


def _tell_result(study: Study, levers: list[str], result: "Launched", as_json: bool) -> None:
    from flowlab.verdict.record import record_decisions

    for problem in result.problems:
        say(f"warning: {problem}")
    record_decisions(study.runs, study.ledger)
    if as_json:
        verdicts = judge.read_for(study, levers)
        print_json({"levers": levers, "runs": result.run_ids, "trained": result.trained, "verdicts": verdicts})
    else:
        judge.print_verdicts(study, levers)


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
        again = "" if any(item.purpose for item in planned) else " (--again replicates a lever)"
        num = "the run" if done == 1 else f"all {done} runs"
        say(f"{num} of this comparison {'is' if done == 1 else 'are'} in the ledger: nothing to train{again}")
        return
    say(f"{len(waiting)} run{'s' * (len(waiting) > 1)} to train{kept}:")
    for item in waiting:
        say(f"  {item.run.lever} @ {item.run.seed}: {item.why}")
