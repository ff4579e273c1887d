"""`flowlab sql` and `flowlab compare`: questions to the ledger."""

import json
import math
import struct
import sys
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowlab.cli.grid import Grid
from flowlab.cli.judge import ingest_all
from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import figure, out, plain, print_json, say, table
from flowlab.core.errors import StudyError
from flowlab.study.settings import MetricKey
from flowlab.study.slices import frame_slices

if TYPE_CHECKING:
    from flowlab.ledger.connection import Table
    from flowlab.verdict.compare import Compared, Difference


class Form(StrEnum):
    auto = "auto"
    table = "table"
    records = "records"
    csv = "csv"
    json = "json"


def sql(
    question: Annotated[str, typer.Argument(metavar="SQL", help='One SELECT, such as "select * from verdicts".')],
    file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the answer to FILE.csv or FILE.parquet instead.")
    ] = None,
    form: Annotated[
        Form,
        typer.Option("--format", help="How to print it; auto: a table where a row fits, else one record per row."),
    ] = Form.auto,
    as_csv: Annotated[bool, typer.Option("--csv", help="The same as --format csv.")] = False,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the ledger in SQL. It is a DuckDB file: docs/views.md lists its views."""
    from flowlab.interop.answer import csv_of, require_ending, write_answer
    from flowlab.ledger.connection import read

    form = _one_form(form, as_csv, as_json, file)
    if file is not None:
        require_ending(file)
    found = open_study(study)
    ingest_all(found)
    answer = read(found.ledger, question)
    if file is not None:
        write_answer(answer, file)
        say(f"{len(answer.rows):,} rows, {len(answer.columns)} columns: {file}")
        if form == Form.json:
            print_json({"file": str(file), "rows": len(answer.rows)})
    elif form == Form.json:
        print_json(_named(answer.records()))
    elif form == Form.csv:
        text = csv_of(answer).decode()
        sys.stdout.write(plain(text, "\n") if sys.stdout.isatty() else text)
    else:
        _print_answer(answer, form)


def _one_form(form: Form, as_csv: bool, as_json: bool, file: Path | None) -> Form:
    """How the answer is printed. Raises StudyError for two ways at once."""
    asked = {form for form, given in ((Form.csv, as_csv), (Form.json, as_json), (form, form != Form.auto)) if given}
    if len(asked) > 1:
        raise StudyError(f"an answer is printed in one way, got {' and '.join(sorted(asked))}. Leave one out.")
    chosen = asked.pop() if asked else Form.auto
    if file is not None and chosen not in (Form.auto, Form.json):
        raise StudyError(f"--out writes a file by its ending, {file.suffix or 'FILE.csv'}: leave {chosen} out.")
    return chosen


def _print_answer(answer: "Table", form: Form) -> None:
    """All of an answer, however long: a table where a row fits on a line, else records. How many rows goes to stderr.

    Where nobody watches (a pipe, a file) every row has one line.
    """
    tells = [_telling(kind) for kind in answer.types]
    rows = [[plain(tell(value)) for tell, value in zip(tells, row, strict=True)] for row in answer.rows]
    numbers = [index for index, kind in enumerate(answer.types) if _is_number(kind)]
    columns = [plain(column) for column in answer.columns]
    as_records = {Form.records: True, Form.table: False}.get(form)
    out().print(Grid(columns, rows, "", numbers, is_answer=True, as_records=as_records), crop=False)
    say("1 row" if len(rows) == 1 else f"{len(rows):,} rows")


def _named(value: Any) -> Any:
    """The value with "NaN", "Infinity" and "-Infinity" for numbers that JSON lacks: null is what the ledger lacks."""
    if isinstance(value, dict):
        return {key: _named(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_named(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _is_number(kind: str) -> bool:
    return kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL") or kind.endswith("INT") or kind == "INTEGER"


def _telling(kind: str) -> Callable[[Any], str]:
    """How values of a DuckDB type are told."""
    return told_single if kind == "FLOAT" else told


def told(value: Any) -> str:
    """A value with all that it is: a number by the shortest digits that give it back, the rest as DuckDB says it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(told, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {told(item)}' for key, item in value.items())}}}"
    return repr(value)[2:-1] if isinstance(value, bytes) else str(value)


def told_single(value: float | None) -> str:
    """The shortest digits that give a FLOAT back, which Python holds as the double that it is."""
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return told(value)
    shorter = (float(f"{value:.{digits}g}") for digits in range(6, 9))
    return repr(
        next((one for one in shorter if struct.pack("f", one) == struct.pack("f", value)), float(f"{value:.9g}"))
    )


def compare(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or what no other id begins with.")],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Another run's.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Every readout, slice and drive, and numbers that are equal too.")
    ] = False,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """The recipes of two runs where they differ, then final numbers that do; refused if evaluated in two ways."""
    from flowlab.verdict.compare import compare_runs, differences, find_run_id

    found = open_study(study)
    ingest_all(found)
    ids = (find_run_id(found.ledger, run), find_run_id(found.ledger, other))
    shared = compare_runs(found.ledger, *ids)
    unlike = differences(found.ledger, *ids)
    primary, whole = found.rule.primary, frame_slices(found.slices)
    looked_at = [
        row
        for row in shared
        if everything or (row.slice in whole and row.readout in ("", primary.readout) and not row.drive)
    ]
    shown = [row for row in looked_at if everything or row.difference != 0]
    num_equal = sum(row.difference == 0 for row in looked_at)
    if as_json:
        told_numbers = [asdict(row) | {"difference": row.difference} for row in shown]
        differ = [asdict(one) for one in unlike]
        print_json({"run": ids[0], "other": ids[1], "differ": differ, "numbers": told_numbers, "num_equal": num_equal})
        return
    _print_unlike(ids, unlike)
    if not shared:
        say("the two runs share no final number: flowlab status says how far they are")
        return
    _print_numbers(shown, primary)
    say(f"{len(looked_at) - num_equal} numbers differ, {num_equal} are equal")
    if len(looked_at) < len(shared):
        say(f"over whole frames, by {primary.readout}; all {len(shared)} of every readout, slice and drive: --all")


def _print_unlike(ids: tuple[str, str], unlike: "list[Difference]") -> None:
    """Which run is A and which B, and in what they differ before they have any number."""
    console = out()
    for letter, run_id in zip("AB", ids, strict=True):
        console.print(f"{letter}: {run_id}", soft_wrap=True)
    if unlike:
        cells = [[one.key, _asked(one.value), _asked(one.other_value)] for one in unlike]
        console.print(table(["what differs", "A", "B"], cells))
    else:
        say(
            "this is one run: name another to compare it with"
            if ids[0] == ids[1]
            else "nothing differs in what the two runs are, but their ids: one repeats the other"
        )


def _print_numbers(rows: "list[Compared]", primary: MetricKey) -> None:
    """The numbers of two runs, the primary metric's first."""
    ordered = sorted(rows, key=lambda row: (row.metric, row.channel) != (primary.metric, primary.channel))
    numbers = [
        [
            " ".join(part for part in (row.metric, row.channel, row.slice, row.drive, row.readout) if part),
            row.value,
            row.other_value,
            _signed(row.difference),
            row.control_sd,
        ]
        for row in ordered
    ]
    if numbers:
        out().print(table(["number", "A", "B", "B - A", "control sd"], numbers, right=["B - A"]))


def _asked(value: Any) -> str | None:
    """What a run was asked for, as experiments.toml would have it."""
    return None if value is None else value if isinstance(value, str) else json.dumps(value)


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{figure(value)}"
