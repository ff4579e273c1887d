"""`flowlab ledger`: is it whole, make it anew."""

from typing import Annotated

import typer

from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, out, print_json, say


def ledger_verify(
    head: Annotated[str, typer.Option(help="A head noted earlier, which must still be in the chain.")] = "",
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check schema, views, chain, journals, and every row against what the journals say; print the chain's head."""
    from flowlab.lab.contents import require_contents_of_disk
    from flowlab.ledger.verify import count_conflicts, require_founded, verify

    found = open_study(study)
    verified = verify(found.ledger, found.runs, head, Bars())
    require_contents_of_disk(found)
    for journal in verified.gone:
        say(f"warning: {found.runs / journal} is gone: its rows were checked against the chain alone")
    for journal, num in count_conflicts(found.ledger).items():
        say(f"warning: {found.runs / journal} says {num} things twice, and otherwise the second time: the first counts")
    require_founded(found.ledger)
    if as_json:
        print_json(verified._asdict())
        return
    out().print(
        f"{verified.num_entries} entries, {verified.num_rows:,} rows and {verified.num_journals} run journals fit\n"
        f"head {verified.head}",
        soft_wrap=True,
    )


def ledger_rebuild(study: StudyOption = None, as_json: JsonOption = False) -> None:
    """Make the ledger anew from the journals in runs/, and put it in place if its chain goes the same way."""
    from flowlab.ledger.rebuild import rebuild

    found = open_study(study)
    rebuilt = rebuild(found.ledger, found.runs, Bars())
    for problem in rebuilt.problems:
        say(f"warning: {problem}")
    if as_json:
        print_json(rebuilt._asdict())
        return
    same = "the same chain as before" if rebuilt.num_compared else "there was no ledger to compare with"
    out().print(f"{rebuilt.num_entries} entries; {same}\nhead {rebuilt.head}", soft_wrap=True)
