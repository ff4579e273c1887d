"""`flowlab evaluate`: finished policies scored again, without training."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowlab.cli import judge
from flowlab.cli.options import Device, DeviceOption, JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, out, print_json, say, table
from flowlab.core.errors import StudyError
from flowlab.core.vocabulary import OVERALL, is_bound
from flowlab.study.settings import MetricKey
from flowlab.study.slices import frame_slices
from flowlab.study.study import Study

if TYPE_CHECKING:
    from flowlab.lab.scoring import Scored

MOST_WHOLE = 4  # runs that are shown with a table each


def evaluate(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Finished runs: their ids, or how these begin.")
    ] = None,
    lever: Annotated[str | None, typer.Option(help="All finished runs of this lever.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All finished runs of the study.")] = False,
    ensemble: Annotated[
        str | None, typer.Option(help="Instead: runs with commas between them, whose draws are one cloud.")
    ] = None,
    draws: Annotated[int | None, typer.Option(help="Draws per frame; without it, as the study has it.")] = None,
    solver: Annotated[str | None, typer.Option(help="euler, midpoint, heun or ab2.")] = None,
    solver_steps: Annotated[int | None, typer.Option(help="Steps of the solver.")] = None,
    noise_scale: Annotated[float | None, typer.Option(help="The noise that draws start from, times this.")] = None,
    arithmetic: Annotated[
        str | None, typer.Option(help="Numbers of matrix products: float32, tf32 (GPUs), bfloat16.")
    ] = None,
    readout: Annotated[
        str | None, typer.Option(help="Only these, with commas between them; also your own, module:attr.")
    ] = None,
    study: StudyOption = None,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """Score finished runs again without training: other draws, solver or readouts; each way has rows of its own."""
    found = open_study(study)
    given = {
        "draws": draws,
        "solver": solver,
        "solver_steps": solver_steps,
        "noise_scale": noise_scale,
        "arithmetic": arithmetic,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    readouts = [] if readout is None else [name.strip() for name in readout.split(",")]
    if sum([bool(runs) or lever is not None, everything, ensemble is not None]) != 1:
        raise StudyError(
            "say what to score by one of these: runs (with --lever NAME or without), --all, --ensemble RUN,RUN. "
            "Example: flowlab evaluate --lever control --draws 128"
        )
    judge.ingest_all(found)

    from flowlab.lab.bench import open_bench
    from flowlab.lab.checkpoints import find_runs
    from flowlab.lab.environment import choose_device
    from flowlab.lab.scoring import score_ensemble, score_runs
    from flowlab.ledger.ingest import require_writable

    require_writable(found.ledger, found.runs)
    bars = Bars()
    bench = open_bench(found, changes, choose_device(device.value), readouts, bars)
    if ensemble is not None:
        names = [name.strip() for name in ensemble.split(",")]
        members = find_runs(found, names)
        if len(members) < len(names):
            raise StudyError(f"--ensemble got {ensemble!r}, which names one policy twice. Name each once")
        scored = [score_ensemble(bench, members, bars)]
    else:
        scored = score_runs(bench, find_runs(found, runs or [], lever, everything), bars)
    judge.ingest_and_copy(found, bars)
    if as_json:
        print_json([_record(one) for one in scored])
    else:
        _show(found, scored)


def _record(one: "Scored") -> dict[str, Any]:
    """A scoring for JSON."""
    return {
        "run_id": one.run_id,
        "sources": one.sources,
        "evaluation_id": one.evaluation_id,
        "new_rows": one.num_new,
        "drawn": one.num_drawn,
        "rows": [row._asdict() for row in one.rows],
    }


def _show(study: Study, scored: "list[Scored]") -> None:
    """A table for each of few runs: readouts by frame slices. Of many, a line each: the primary metric by readout."""
    primary = study.file.study.primary
    if len(scored) <= MOST_WHOLE:
        for one in scored:
            whose = "" if one.sources == (one.run_id,) else f", the policy of {' and '.join(one.sources)}"
            out().print(f"{one.run_id}{whose}: {primary.channel} {primary.metric}", soft_wrap=True)
            out().print(_whole(study, one, primary))
    else:
        out().print(_lines(scored, primary))
    num_new, num_drawn = sum(one.num_new for one in scored), sum(one.num_drawn for one in scored)
    kept = sum(len(one.sources) for one in scored) - num_drawn
    say(f"{num_new:,} numbers are new in the ledger; draws were made of {num_drawn} policies, and kept of {kept}")
    bounds = sorted({row.readout for one in scored for row in one.rows if is_bound(row.readout)})
    if bounds:
        say(f"these look at the truth, so no policy can be read out so: {', '.join(bounds)}")
    if any(one.run_id not in one.sources for one in scored):
        judged = _evaluations_in_force(study) & {one.evaluation_id for one in scored}
        say(
            "evaluated otherwise than the runs were, and as the rule in force says: it judges these numbers"
            if judged
            else "evaluated otherwise than the runs were: a rule judges these numbers only if it is sealed for that"
        )


def _evaluations_in_force(study: Study) -> set[str]:
    """The evaluation that the rule in force is sealed for, if one is."""
    from flowlab.ledger.connection import read

    return {row[0] for row in read(study.ledger, "select evaluation_id from rules_in_force").rows}


def _whole(study: Study, one: "Scored", primary: MetricKey) -> Any:
    slices = frame_slices(study.slices) if study.slices else (OVERALL,)
    found = {
        (row.readout, row.slice): row.value
        for row in one.rows
        if (row.metric, row.channel, row.drive) == (primary.metric, primary.channel, "")
    }
    readouts = list(dict.fromkeys(readout for readout, _ in found))
    cells = [[readout, *(found.get((readout, where)) for where in slices)] for readout in readouts]
    return table(["readout", *slices], cells)


def _lines(scored: "list[Scored]", primary: MetricKey) -> Any:
    of_primary = (primary.metric, primary.channel, primary.slice, primary.drive or "")
    found = [
        {row.readout: row.value for row in one.rows if (row.metric, row.channel, row.slice, row.drive) == of_primary}
        for one in scored
    ]
    readouts = list(dict.fromkeys(name for values in found for name in values))
    cells = [[one.run_id, *(values.get(name) for name in readouts)] for one, values in zip(scored, found, strict=True)]
    return table(["run", *readouts], cells, f"{primary.channel} {primary.metric} {primary.slice}")
