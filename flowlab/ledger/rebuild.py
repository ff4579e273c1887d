"""Makes the ledger anew from the journals alone, and puts it in place if its chain goes the same way."""

from pathlib import Path
from typing import NamedTuple

from flowlab.core.errors import BusyError, ChainBrokenError, LedgerError
from flowlab.core.progress import SILENT, Progress
from flowlab.journal.journal import RUN_JOURNAL, STUDY_JOURNAL
from flowlab.ledger.chain import GENESIS
from flowlab.ledger.connection import lock_door, open_ledger
from flowlab.ledger.ingest import Ingested, bring_in, one_ingester
from flowlab.ledger.migrate import log_beside
from flowlab.ledger.unread import journal_sizes


class Rebuilt(NamedTuple):
    """The chain of the ledger that was made from the journals."""

    head: str
    num_entries: int
    num_compared: int  # entries that the ledger had before, all of which came out the same
    problems: list[str]


def rebuild(ledger_path: Path, runs_dir: Path, progress: Progress = SILENT) -> Rebuilt:
    """Replay all journals into a new ledger and move it to `ledger_path`.

    Raises ChainBrokenError, and leaves the old ledger where it is, if its chain and the new one part ways; LedgerError
    if there is no journal to replay.
    """
    if not any(runs_dir.glob(f"*/{RUN_JOURNAL}")) and not (runs_dir / STUDY_JOURNAL).exists():
        raise LedgerError(f"{runs_dir} holds no journals: there is nothing to rebuild the ledger from.")
    new = ledger_path.with_name(f"{ledger_path.name}.rebuilt")
    done = Ingested()
    with one_ingester(runs_dir, progress=progress):
        old_hashes, damage = _old_chain(ledger_path, runs_dir)
        _forget(new)
        _replay(new, runs_dir, done, progress)
        new_hashes, _ = _hashes(new)
        for number, (old, now) in enumerate(zip(old_hashes, new_hashes, strict=False), start=1):
            if old != now:
                raise ChainBrokenError(
                    f"entry {number} of the ledger made from the journals is not the one that {ledger_path.name} "
                    f"has. The old ledger stays; the new one is {new}. Find out which is right (flowlab ledger "
                    f"verify), then move the other away."
                )
        if len(new_hashes) < len(old_hashes):
            raise ChainBrokenError(
                f"{ledger_path.name} has {len(old_hashes)} entries, the journals make {len(new_hashes)} only: "
                f"{runs_dir / STUDY_JOURNAL} was cut. The old ledger stays. Put the old journal back."
            )
        with lock_door(ledger_path, wait=True):
            if damage:
                kept = ledger_path.replace(ledger_path.with_name(f"{ledger_path.name}.damaged"))
                done.add_problem(f"{damage} It is kept as {kept.name}, and was not compared.")
            log_beside(ledger_path).unlink(missing_ok=True)  # first: the log of the old file would spoil the new one
            new.replace(ledger_path)
        _forget(new)
    return Rebuilt(new_hashes[-1] if new_hashes else GENESIS, len(new_hashes), len(old_hashes), done.problems)


def _old_chain(ledger_path: Path, runs_dir: Path) -> tuple[list[str], str]:
    """The hashes of the ledger that is there, and "" or why it has none. ChainBrokenError if its journal was cut."""
    try:
        hashes, position = _hashes(ledger_path)
    except BusyError:
        raise
    except LedgerError as error:
        return [], str(error)
    study = runs_dir / STUDY_JOURNAL
    if position and (not study.exists() or study.stat().st_size <= position):
        raise ChainBrokenError(
            f"{study} was cut: {ledger_path.name} was made from more of it. The ledger stays. Put the old journal back."
        )
    return hashes, ""


def _replay(new: Path, runs_dir: Path, done: Ingested, progress: Progress) -> None:
    """Bring all journals into the ledger `new`, whole in its one file. Raises LedgerError and leaves nothing behind."""
    sizes = journal_sizes(runs_dir)
    try:
        with progress.task("rebuild the ledger", sum(sizes.values()), "bytes") as task:
            bring_in(new, runs_dir, sizes, done, task)
        with open_ledger(new, read_only=False) as connection:
            connection.execute("checkpoint")  # on a full disk closing would leave the rows in the log beside it
    except LedgerError:
        _forget(new)
        raise


def _hashes(ledger_path: Path) -> tuple[list[str], int]:
    """The hashes of a ledger's chain, and where its last entry stands in the study's journal. Raises LedgerError."""
    if not ledger_path.exists() or ledger_path.stat().st_size == 0:
        return [], 0
    import duckdb

    with open_ledger(ledger_path, read_only=True) as connection:
        try:
            rows = connection.execute("select hash, position from chain order by entry").fetchall()
        except duckdb.CatalogException:
            raise LedgerError(f"{ledger_path} is of an early flowlab and has no chain.") from None
    return [row[0] for row in rows], rows[-1][1] if rows else 0


def _forget(ledger_path: Path) -> None:
    for leftover in (ledger_path, log_beside(ledger_path), ledger_path.with_name(f"{ledger_path.name}.lock")):
        leftover.unlink(missing_ok=True)
