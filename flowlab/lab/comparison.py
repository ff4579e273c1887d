"""`flowlab run` as a function: plan, say, seal, train, ingest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowlab.core.progress import Progress
from flowlab.lab.environment import choose_device
from flowlab.lab.executor import execute
from flowlab.lab.plan import PlannedRun, plan_runs
from flowlab.lab.prepare import Ground, open_ground
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.ledger.lines import StudyJournal
from flowlab.study.study import Study
from flowlab.verdict.seal import seal_rule


@dataclass(frozen=True)
class Comparison:
    """What a comparison consists of and what was trained for it now."""

    run_ids: list[str]
    trained: list[str]
    problems: list[str]


def compare(
    study: Study,
    lever: str,
    seeds: Sequence[int],
    device: str,
    *,
    again: bool,
    progress: Progress,
    announce: Callable[[list[PlannedRun]], None],
) -> Comparison:
    """Train what the comparison of `lever` at `seeds` lacks, and bring it into the ledger even when interrupted."""
    where = choose_device(device)
    ground = open_ground(study)
    note_cache(study, ground)
    seal_rule(study.rule, study.runs, study.ledger)
    problems = ingest(study.ledger, study.runs).problems
    planned = plan_runs(study, ground.base, lever, seeds, read_statuses(study), again=again)
    announce(planned)
    missing = [item for item in planned if not item.done]
    try:
        if missing:
            execute(study, missing, where, progress)
    finally:
        problems += ingest(study.ledger, study.runs).problems
    return Comparison([item.run.run_id for item in planned], [item.run.run_id for item in missing], problems)


def note_cache(study: Study, ground: Ground) -> None:
    """Tell the ledger once which cache the runs come from."""
    cache = ground.cache
    ingest(study.ledger, study.runs)
    if cache.cache_id in {row[0] for row in read(study.ledger, "select cache_id from caches").rows}:
        return
    with StudyJournal.of(study.runs) as journal:
        journal.cache(
            cache_id=cache.cache_id,
            identity=cache.attributes["identity"],
            num_train=cache.num_windows("train"),
            num_val=cache.num_windows("val"),
            val_drives_digest=ground.base.val_digest,
        )


def read_statuses(study: Study) -> dict[str, str]:
    """The state of every run that the ledger knows, by run id."""
    answer = read(study.ledger, "select * from run_status")
    return {row["run_id"]: row["status"] for row in answer.records()}
