"""What the journals of runs say: what each registered as, and the files that it put on record. Needs no torch."""

from pathlib import Path
from typing import Any

from flowlab.core.errors import PolicyError
from flowlab.core.vocabulary import PURPOSE, SCORED_FROM
from flowlab.journal.journal import RUN_JOURNAL, read_lines


def read_registered(folder: Path) -> dict[str, Any] | None:
    """What the run of this folder registered as; None where its journal does not say it first."""
    for line in read_lines(folder / RUN_JOURNAL, most=1)[0]:
        if line.fields.get("kind") == "registered":
            return line.fields
    return None


def source_of(record: dict[str, Any]) -> str:
    """The run that trained the policy of this one: itself, or the run that it is a scoring of.

    Raises PolicyError for an ensemble, which has several.
    """
    sources = sources_of(record)
    if len(sources) > 1:
        raise PolicyError(
            f"run {record['run_id']} is an ensemble of {', '.join(sources)}, each with a policy of its own. Name one"
        )
    return sources[0] if sources else record["run_id"]


def sources_of(record: dict[str, Any]) -> list[str]:
    """The runs whose policies a scoring is of; none for a run that was trained."""
    tags = [tag.partition(":") for tag in record["tags"]]
    return [run_id for taxonomy, _, run_id in tags if taxonomy == SCORED_FROM]


def purpose_of(record: dict[str, Any]) -> str | None:
    """What a run was trained for that no rule may look at; None for any other."""
    tags = [tag.partition(":") for tag in record["tags"]]
    return next((purpose for taxonomy, _, purpose in tags if taxonomy == PURPOSE), None)


def artifacts(folder: Path) -> dict[str, Any]:
    """The digests of the files that the journal of a run's folder names, by their names; the last one told counts.

    A damaged line may tell anything in place of a digest, which then is that of no file.
    """
    lines = [line.fields for line in read_lines(folder / RUN_JOURNAL)[0]]
    told = [(line.get("name"), line.get("digest")) for line in lines if line.get("kind") == "artifact"]
    return {name: digest for name, digest in told if isinstance(name, str)}
