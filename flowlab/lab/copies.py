"""The second copy of runs, where [stores] names a place for it: what is there outlives this machine.

Journals are written here alone. A run that is being trained leaves a copy of its journal and of what it goes on from
at each of its resume checkpoints, and once it has ended all of its files, the journal last.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowlab.core.digest import digest_files
from flowlab.core.errors import DiskError, StoreError
from flowlab.core.files import trouble, write_atomic, write_json_atomic
from flowlab.core.progress import SILENT, Progress
from flowlab.core.stores import LocalStore, Place, Store, store_at
from flowlab.journal.journal import LAST_WORDS, RUN_JOURNAL, last_word, read_whole_lines
from flowlab.lab.registered import artifacts
from flowlab.study.study import Study
from flowlab.train.checkpoint import RESUME_FILE

RECORD_FILE, COPIED = "run.json", "copied.json"
FILES = (".safetensors", ".zarr")
KINDS = (*(f"*{suffix}" for suffix in FILES), RECORD_FILE, "log.txt")
"""What of an ended run is copied beside its journal."""


def copy_progress(folder: Path, copies: Place) -> None:
    """Copy what the run goes on from, its journal first: it then has all that came before. Raises StoreError."""
    store = store_at(copies / folder.name)
    state = (folder / RESUME_FILE).read_bytes()  # read before the journal: a later state would lack its lines
    store.put(RUN_JOURNAL, read_whole_lines(folder / RUN_JOURNAL, 0))
    store.put(RESUME_FILE, state)


def bring_progress(folder: Path, copies: Place) -> None:
    """Bring back what a run's folder lacks to go on: its journal, and the state of a run that has not ended.

    The caller holds the run's lock.
    """
    store = store_at(copies / folder.name)
    if not (folder / RUN_JOURNAL).exists():
        _bring(store, RECORD_FILE, folder / RECORD_FILE)
        _bring(store, RUN_JOURNAL, folder / RUN_JOURNAL)
    if not (folder / RESUME_FILE).exists() and last_word(folder / RUN_JOURNAL) not in LAST_WORDS:
        _bring(store, RESUME_FILE, folder / RESUME_FILE)


def copy_ended(study: Study, progress: Progress = SILENT) -> list[str]:
    """Copy what is new of runs that have ended; what hindered that, in a sentence, or nothing.

    What is left is copied by the next command that trains or scores.
    """
    copies = study.run_copies
    if copies is None:
        return []
    waiting = [path.parent for path in sorted(study.runs.glob(f"*/{RUN_JOURNAL}")) if _is_new(path.parent, copies)]
    waiting = [folder for folder in waiting if last_word(folder / RUN_JOURNAL) in LAST_WORDS]
    if not waiting:
        return []
    try:
        with progress.task("copy runs", len(waiting), "runs") as task:
            for folder in waiting:
                _copy_ended(folder, copies)
                task.advance()
    except (StoreError, OSError) as error:
        told = trouble(error, study.runs) if isinstance(error, OSError) else str(error)
        return [f"runs are not all copied to {copies}: {told} They are whole here; the next command goes on."]
    return []


def _copy_ended(folder: Path, copies: Place) -> None:
    """The files that are not as they were copied last, then the journal, which tells their digests."""
    place, files = copies / folder.name, _stamps(folder)
    store, known = store_at(place), _copied(folder, copies).get("files", {})
    changed = [name for name, stamp in files.items() if known.get(name) != stamp]
    journal = read_whole_lines(folder / RUN_JOURNAL, 0)
    store.each(lambda name: store.put(name, (folder / name).read_bytes()), changed)
    store.put(RUN_JOURNAL, journal)
    store.remove([RESUME_FILE])
    write_json_atomic(folder / COPIED, {"place": str(copies), "files": files, "journal": len(journal)})


def _stamps(folder: Path) -> dict[str, Any]:
    """The files of an ended run that are copied, with their sizes and times."""
    found = [path for kind in KINDS for path in folder.glob(kind) if path.name != RESUME_FILE]
    files = [file for path in found for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return dict(LocalStore(folder).stamps(sorted(file.relative_to(folder).as_posix() for file in files)))


def _copied(folder: Path, copies: Place) -> dict[str, Any]:
    """What of the run was copied to `copies`; nothing where nobody knows."""
    try:
        found = json.loads((folder / COPIED).read_bytes())
        return found if found["place"] == str(copies) and isinstance(found["files"], dict) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _is_new(folder: Path, copies: Place) -> bool:
    return _copied(folder, copies).get("journal") != (folder / RUN_JOURNAL).stat().st_size


def bring_journals(study: Study) -> frozenset[str]:
    """Bring back the journals of ended runs that are only in the second copy; the ids of all runs that are there."""
    copies = study.run_copies
    if copies is None:
        return frozenset()
    there = store_at(copies).folders()
    for run_id in there:
        folder, store = study.runs / run_id, store_at(copies / run_id)
        if not (folder / RUN_JOURNAL).exists() and not store.stamps([RESUME_FILE]):
            with _refused(folder):
                _bring(store, RECORD_FILE, folder / RECORD_FILE)
                _bring(store, RUN_JOURNAL, folder / RUN_JOURNAL)
    return frozenset(there)


def bring_files(study: Study, run_id: str) -> None:
    """Bring back what the run's journal names, policies, draws and rankers, as far as it is only in the second copy.

    Raises StoreError for a file that is not the one that the journal names; it is not kept. Draws prove themselves.
    """
    folder, copies = study.runs / run_id, study.run_copies
    if copies is None:
        return
    on_record = artifacts(folder)
    named = [name for name in on_record if Path(name).name == name and name.endswith(FILES)]
    lacking = [name for name in named if not (folder / name).exists()]
    if not lacking:
        return
    store = store_at(copies / run_id)
    keys: Sequence[str] = store.all_keys()
    with _refused(folder):
        for name in lacking:
            if name in keys:
                _bring(store, name, folder / name)
                _require_on_record(folder / name, on_record[name], copies / run_id)
            elif inside := [key for key in keys if key.startswith(f"{name}/")]:
                _bring_folder(store, inside, folder / name)


@contextmanager
def _refused(folder: Path) -> Iterator[None]:
    """What the disk refuses as a sentence."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"run {folder.name} cannot be brought back: {trouble(error, folder)}") from None


def _require_on_record(path: Path, digest: Any, place: Place) -> None:
    if digest_files([path]) != digest:
        path.unlink()
        raise StoreError(
            f"{place / path.name} is not the file that the run's journal names: it was changed there, or damaged. Put "
            f"the right one in its place, or train the run once more: flowlab run --again."
        )


def _bring_folder(store: Store, keys: Sequence[str], path: Path) -> None:
    """Bring a folder, whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    store.each(lambda key: write_atomic(partial / key.removeprefix(f"{path.name}/"), store.read(key)), keys)
    partial.rename(path)


def _bring(store: Store, key: str, path: Path) -> None:
    """Bring a file, if it is there."""
    try:
        content = store.read(key)
    except FileNotFoundError:
        return
    write_atomic(path, content)
