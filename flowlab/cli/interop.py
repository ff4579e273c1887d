"""`flowlab ledger export|import|tensorboard`: to other tools and from them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from flowlab.cli.judge import ingest_all
from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, out, print_json, say, table
from flowlab.core.errors import LedgerError


class Tool(StrEnum):
    mlflow = "mlflow"
    wandb = "wandb"
    csv = "csv"


def ledger_export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or an empty one.")],
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the whole ledger as Parquet and SQL that any DuckDB opens, without flowlab, with the same verdicts."""
    from flowlab.interop.export import SCHEMA_FILE, export_ledger

    found = open_study(study)
    ingest_all(found)
    done = export_ledger(found.ledger, folder, Bars())
    if as_json:
        print_json({"folder": str(folder), **done._asdict()})
        return
    num_rows = sum(done.rows.values())
    say(f"{len(done.rows)} tables ({num_rows:,} rows) and {done.num_views} views. The chain ends in {done.head}")
    say(f"open it anywhere: cd {folder} && duckdb new.duckdb < {SCHEMA_FILE}")


def ledger_import(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="MLflow's SQLite file; csv, parquet and offline .wandb files of one W&B project; or a table of yours.",
        ),
    ],
    tool: Annotated[Tool, typer.Option("--from", help="What wrote the file.")],
    control: Annotated[str, typer.Option(metavar="NAME", help="The name of the runs that levers are compared with.")],
    experiment: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="MLflow: the experiment's name or ID, if there are several. W&B: the project, if no file says it.",
        ),
    ] = None,
    mapped: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="KEY=METRIC:CHANNEL:SLICE:READOUT[:final]",
            help="What a metric is in flowlab's words; with :final its last value alone is kept. Give it once a key.",
        ),
    ] = None,
    lever_from: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The param, tag or column that names a run's lever, instead of its name."),
    ] = None,
    seed_from: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The param, tag or column that is a run's seed. Without it, nothing pairs."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="PARAM", help="A param that is no part of the recipe, like an output folder. Repeatable."),
    ] = None,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring finished runs of MLflow, W&B or a table into the ledger. They are shown beside ours, and never stack."""
    from flowlab.interop.import_runs import import_runs
    from flowlab.interop.metric_map import MetricMap

    found = open_study(study)
    metrics = MetricMap.parse(mapped or [])
    foreign = _read(tool, files, experiment, lever_from, seed_from)
    done = import_runs(foreign, found.runs, found.name, control, metrics, set(ignore or []), Bars())
    ingest_all(found)
    records: list[dict[str, Any]] = [
        {
            "run": run.run_id,
            "lever": run.lever,
            "seed": run.seed,
            "replicate": run.replicate,
            "status": run.foreign.status,
            "values": done.num_values[run.run_id],
            "new": run in done.added,
        }
        for run in (*done.added, *done.known)
    ]
    for note in done.notes:
        say(f"note: {note}")
    if as_json:
        print_json({"runs": records, "notes": done.notes})
        return
    if done.added:
        rows = [list(record.values())[:-1] for record in records if record["new"]]
        out().print(table(list(records[0])[:-1], rows, f"imported from {foreign.tool}, {foreign.experiment}"))
    known = f"; {len(done.known)} were imported before" if done.known else ""
    say(f"{len(done.added)} runs imported{known}" if done.added else f"nothing to import{known}")


def _read(tool: Tool, files: list[Path], experiment: str | None, lever_from: str | None, seed_from: str | None) -> Any:
    from flowlab.interop.long_table import read_long_table
    from flowlab.interop.mlflow_store import read_store
    from flowlab.interop.wandb_export import read_exports

    if tool is Tool.wandb:
        return read_exports(files, experiment, lever_from, seed_from)
    if len(files) > 1:
        what = "table" if tool is Tool.csv else "SQLite file"
        raise LedgerError(f"--from {tool.value} reads one {what}, got {len(files)}. Import one after the other.")
    if tool is Tool.csv:
        return read_long_table(files[0], experiment, lever_from, seed_from)
    return read_store(files[0], experiment, lever_from, seed_from)


def ledger_tensorboard(
    run_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN_ID]...", help="Runs by their ids; without any, all runs.")
    ] = None,
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the event files go, one folder a run.")
    ] = Path("tensorboard"),
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write runs' metrics as TensorBoard event files; look at them with: tensorboard --logdir DIR."""
    from flowlab.interop.event_files import require_tensorboard, write_event_files

    require_tensorboard()
    found = open_study(study)
    if folder.resolve().is_relative_to(found.runs.resolve()):
        raise LedgerError(f"--out got {folder}, which is where runs keep their journals. Name another folder.")
    ingest_all(found)
    done = write_event_files(found.ledger, folder, run_ids or [], Bars())
    if done.empty:
        say(f"note: {len(done.empty)} runs have no metrics yet, and got no file: {', '.join(done.empty)}")
    if as_json:
        print_json({"folder": str(folder), **done._asdict()})
        return
    say(f"{done.num_values:,} values of {done.num_runs} runs. Look at them: tensorboard --logdir {folder}")
