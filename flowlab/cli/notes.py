"""`flowlab note` and `flowlab tag`: what people say about runs and levers."""

from typing import Annotated

import typer
from rich.text import Text

from flowlab.cli import judge
from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import out, plain, print_json, say, when
from flowlab.study.study import Study

SubjectArgument = Annotated[
    str, typer.Argument(metavar="RUN|LEVER", help="A lever, or the beginning of a run's id.", show_default=False)
]


def note(
    subject: SubjectArgument,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What to remember; without it, what there is already.")
    ] = None,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write down something about a run or a lever, for good; without a text, show what was written."""
    from flowlab.lab.notes import add_note, find_subject, read_notes, read_tags

    found = open_study(study)
    judge.ingest_all(found)
    about = find_subject(found, subject)
    if text is not None:
        add_note(found, about, text)
    notes, tags = read_notes(found, about), read_tags(found, about)
    if as_json:
        print_json({"about": about.about, "subject": about.name, "notes": notes, "tags": tags})
    elif text is not None:
        say(f"noted of {about.about} {about.name}; shown by flowlab note {about.name}, and in the report")
    elif notes or tags:
        print_said(found, about.about, about.name)
    else:
        say(f'nobody has said anything of {about.about} {about.name} yet: flowlab note {about.name} "TEXT"')


def tag(
    subject: SubjectArgument,
    tags: Annotated[list[str], typer.Argument(metavar="TAXONOMY:VALUE...", help="Such as outcome:negative.")],
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tag a run or a lever: scale, head, levers or outcome. The last tag of a taxonomy counts."""
    from flowlab.lab.notes import add_tag, find_subject, parse_tag, read_tags

    found = open_study(study)
    judge.ingest_all(found)
    about = find_subject(found, subject)
    for given in tags:
        parse_tag(found, given)  # all of them, before the first is written
    added = [given for given in tags if add_tag(found, about, given)]
    if as_json:
        print_json({"about": about.about, "subject": about.name, "tags": read_tags(found, about), "added": added})
        return
    for given in tags:
        same = "" if given in added else " already"
        say(f"{about.about} {about.name} is{same} tagged {given}")


def print_said(study: Study, about: str, name: str) -> None:
    """What people said of it, if they did: its tags in one line, then each note with its time."""
    from flowlab.lab.notes import Subject, read_notes, read_tags

    tags = read_tags(study, Subject(about, name))
    console = out()
    if tags:
        told = ", ".join(f"{taxonomy}:{value}" for taxonomy, value in sorted(tags.items()))
        console.print(f"tagged {told}", soft_wrap=True)
    for row in read_notes(study, Subject(about, name)):
        stamp = Text.assemble((f"{when(row['time_us'])}  ", "dim"), plain(row["note"], "\n"))
        console.print(stamp, soft_wrap=True)
