"""Notes and tags of people: lines of the study's journal, so they are in the chain and come back with a rebuild."""

from dataclasses import dataclass
from typing import Any

from flowlab.core.errors import MissingError, StudyError, UnknownNameError, unknown_name
from flowlab.core.vocabulary import CONTROL, TAXONOMIES
from flowlab.journal.lines import StudyJournal
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.study import Study

LONGEST = 4000  # characters of a note
MOST_NAMED = 4


@dataclass(frozen=True)
class Subject:
    """What a note or a tag is about: `about` is "lever" or "run", `name` a lever's name or a run's id."""

    about: str
    name: str


def find_subject(study: Study, name: str) -> Subject:
    """The lever of that name, or the run whose id is `name` or alone begins so. Raises UnknownNameError.

    Levers are those of experiments.toml and of every run in the ledger; the control is one too. What begins a lever's
    name means no run: it is a lever that was cut short.
    """
    rows = read(study.ledger, "select run_id, lever from runs order by run_id").rows if study.ledger.exists() else []
    levers = {CONTROL, *study.levers, *(lever for _, lever in rows)}
    if name in levers:
        return Subject("lever", name)
    found = [run_id for run_id, _ in rows if run_id.startswith(name)]
    if name in found:
        found = [name]
    is_half_a_lever = any(lever.startswith(name) for lever in levers)
    if len(found) == 1 and not is_half_a_lever:
        return Subject("run", found[0])
    if found and not is_half_a_lever:
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise UnknownNameError(
            f"{len(found)} runs begin with {name!r}: {', '.join(found[:MOST_NAMED])}{more}. Give more of the id."
        )
    raise unknown_name("run or lever", name, levers)


def add_note(study: Study, subject: Subject, text: str) -> None:
    """Write a note down, for good, unless it is the subject's last one already.

    Raises StudyError for one without words, or as long as a report.
    """
    text = text.strip()
    if not text or len(text) > LONGEST:
        got = f"{len(text):,} characters" if text else "no words"
        raise StudyError(f"a note has from 1 to {LONGEST:,} characters, got {got}. Write what you want to remember.")
    if study.ledger.exists() and any(row["note"] == text for row in read_notes(study, subject)[-1:]):
        return  # given again, after a Ctrl-C
    with StudyJournal.of(study.runs) as journal:
        journal.note(about=subject.about, subject=subject.name, note=text)
    _bring_in(study)


def add_tag(study: Study, subject: Subject, tag: str) -> bool:
    """Write a tag "taxonomy:value" down, and whether it was new. Raises UnknownNameError for one that nothing knows."""
    taxonomy, value = parse_tag(study, tag)
    if read_tags(study, subject).get(taxonomy) == value:
        return False
    with StudyJournal.of(study.runs) as journal:
        journal.tag(about=subject.about, subject=subject.name, taxonomy=taxonomy, value=value)
    _bring_in(study)
    return True


def parse_tag(study: Study, tag: str) -> tuple[str, str]:
    """Taxonomy and value of "outcome:negative". Raises UnknownNameError with the nearest name."""
    taxonomy, colon, value = (part.strip() for part in tag.partition(":"))
    if taxonomy not in TAXONOMIES:
        raise unknown_name("taxonomy", taxonomy, TAXONOMIES)
    known = known_values(study, taxonomy)
    if not colon or value not in known:
        raise unknown_name(f"value of {taxonomy}", value, known, f"the tag {tag!r}")
    return taxonomy, value


def known_values(study: Study, taxonomy: str) -> tuple[str, ...]:
    """What a tag of that taxonomy may be in this study."""
    levers = study.file.levers
    if taxonomy == "levers":
        return tuple(dict.fromkeys([*levers, *(tag for lever in levers.values() for tag in lever.tags)]))
    if taxonomy == "head":
        kinds = {
            study.control.objective.kind,
            *(str(lever.set.get("objective.kind", "flow")) for lever in levers.values()),
        }
        return tuple(dict.fromkeys([*TAXONOMIES["head"], *sorted(kinds)]))
    return TAXONOMIES[taxonomy]


def read_notes(study: Study, subject: Subject | None = None) -> list[dict[str, Any]]:
    """Notes of a subject, or all there are, oldest first. Raises MissingError where there is no ledger yet."""
    _require_ledger(study)
    question = "select about, subject, note, time_us from notes order by entry"
    rows = read(study.ledger, question).records()
    return [row for row in rows if subject is None or (row["about"], row["subject"]) == (subject.about, subject.name)]


def read_tags(study: Study, subject: Subject) -> dict[str, str]:
    """The tag of each taxonomy that somebody gave a subject last."""
    _require_ledger(study)
    question = "select taxonomy, value from said_tags where about = ? and subject = ? order by entry"
    return dict(read(study.ledger, question, [subject.about, subject.name]).rows)


def _require_ledger(study: Study) -> None:
    if not study.ledger.exists():
        raise MissingError(f"there is no ledger at {study.ledger} yet. Start a run first: flowlab run --lever NAME.")


def _bring_in(study: Study) -> None:
    ingest(study.ledger, study.runs, runs_too=False)
