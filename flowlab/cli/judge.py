"""`flowlab verdict` and `flowlab sql`: what the ledger says."""

from typing import Annotated, Any

import typer

from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import out, print_json, say, table
from flowlab.study.study import CONTROL, Study


def verdict(
    lever: Annotated[str | None, typer.Argument(metavar="[LEVER]", help="One lever only.")] = None,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the registered rule decides for every lever: pairs, deltas, panel, stage, decision, what is owed next."""
    found = open_study(study)
    if lever is not None:
        found.recipe(lever)
    ingest_all(found)
    if as_json:
        print_json(read_for(found, lever))
    else:
        print_verdicts(found, lever)


def sql(
    question: Annotated[str, typer.Argument(metavar="SQL", help='One SELECT, such as "select * from verdicts".')],
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the ledger in SQL. It is a DuckDB file: docs/views.md lists its views."""
    from flowlab.ledger.connection import read

    found = open_study(study)
    ingest_all(found)
    answer = read(found.ledger, question)
    if as_json:
        print_json(answer.records())
    else:
        out().print(table(answer.columns, answer.rows))


def ingest_all(study: Study) -> None:
    """Bring every unread journal into the ledger, and say what could not be read."""
    from flowlab.ledger.ingest import ingest

    for problem in ingest(study.ledger, study.runs).problems:
        say(f"warning: {problem}")
