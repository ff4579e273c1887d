"""From recordings to caches: the control's, and those of levers that change what a cache is computed from.

Each cache is built once and shared by content. A small file in caches/inputs says which cache the present tables of
experiments.toml mean, so that a command finds it without reading recordings.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, StringConstraints

from flowlab.cache.attributes import MANIFEST, read_attributes
from flowlab.cache.build import build_cache
from flowlab.cache.cache import Cache, has_old_layout, open_cache
from flowlab.cache.places import find_caches, is_there
from flowlab.cache.verify import damage
from flowlab.core.digest import digest_json
from flowlab.core.errors import CacheCorruptError, CacheMismatchError, FlowlabError, LeftOutDriveError, MissingError
from flowlab.core.files import write_json_atomic
from flowlab.core.plugin_code import source_digest
from flowlab.core.plugins import Source
from flowlab.core.progress import SILENT, Progress
from flowlab.core.stores import Place, store_at
from flowlab.core.types import Split
from flowlab.drives.carracing import record
from flowlab.drives.source import open_source
from flowlab.lab.drives import left_out_drives, load_drives, split_loaded
from flowlab.lab.encoders import AGAIN, find_pin, open_encoder, what_changed_of_encoder
from flowlab.study.lever import flat_keys
from flowlab.study.settings import CarRacingDrives, Inputs
from flowlab.study.study import CONTROL, Study
from flowlab.study.versions import spell

LATEST = "control.json"


@dataclass(frozen=True)
class Wanted:
    """A cache that some levers need: its inputs, and the validation drives where the split may not choose them."""

    inputs: Inputs
    val: tuple[str, ...] | None
    levers: tuple[str, ...]

    @property
    def name(self) -> str:
        """The digest under which the cache of these inputs is noted."""
        return digest_json({"inputs": spell(self.inputs.to_json()), "val": self.val})

    @property
    def whose(self) -> str:
        """Who needs it, for a message."""
        return f"lever {self.levers[0]!r}" if self.levers and CONTROL not in self.levers else "the control"


@dataclass(frozen=True)
class Prepared:
    """A cache that is there, whether it was built just now, and who needs it."""

    path: Place
    is_new: bool
    levers: tuple[str, ...]


def open_drives(study: Study, wanted: Wanted, progress: Progress = SILENT) -> tuple[Source, Split]:
    """The source, recorded first if it is a simulator's, and which drives train and which validate.

    Raises CacheMismatchError if the drives of a lever lack some of the study's validation drives: it may move its train
    side alone.
    """
    source, _, split = _load(study, wanted, progress)
    return source, split


def _load(study: Study, wanted: Wanted, progress: Progress) -> tuple[Source, list[str], Split]:
    """What `open_drives` gives, and between the two the drives that are left out."""
    settings, val = wanted.inputs.drives, wanted.val
    if isinstance(settings, CarRacingDrives):
        record(settings, study.root, progress)
    source = open_source(settings, study.root, wanted.inputs.split.blocks)
    names = source.drive_ids()
    lacking = [name for name in val or () if name not in names]
    if lacking:
        raise CacheMismatchError(
            f"{wanted.whose} has no drive {', '.join(lacking)}, which validates: every run is scored on the control's "
            f"validation frames. Keep it among the lever's drives."
        )
    split = wanted.inputs.split
    if val is not None and split.scale != "overfit":
        split = split.validating_on(val)
    drives = load_drives(source)
    return source, list(left_out_drives(drives)), split_loaded(drives, split, progress)


def prepare_cache(
    study: Study, wanted: Wanted, device: torch.device, progress: Progress = SILENT, *, prove: bool = False
) -> Prepared:
    """The cache for these inputs, built unless it is there; says why it is built where there was one.

    With `prove`, one that is there is read whole, unless none of its files has changed since that was done last, and a
    damaged one is built anew. Without, a run finds the damage when it reads.
    """
    note = _note_of(study, wanted)
    found = _noted_cache(study, note)
    if found is not None:
        changed = _what_changed(study, wanted, note, found)
        if not changed and not (prove and damage(found, progress, study.caches)):
            return Prepared(found, False, wanted.levers)
        if changed:
            progress.say(f"{changed}: cache {found.stem} is of before, another is built. Its runs and verdicts stay.")
    elif CONTROL in wanted.levers:
        _tell_changed_tables(study, wanted, progress)
        _tell_old_caches(study, progress)
    before = {there: _stamp(there) for there in find_caches(study.cache_home)}
    told: set[str] = set()
    while True:
        try:
            path = _build(study, wanted, device, progress)
            break
        except LeftOutDriveError as error:  # found out only while its images were read; the source knows it from now on
            if str(error) in told:
                raise  # or does not: it has nowhere to keep it, or is one that forgets
            told.add(str(error))
            progress.say(str(error))
    return Prepared(path, _stamp(path) != before.get(path), wanted.levers)


def _stamp(path: Place) -> object:
    """Another one whenever the cache at `path` was built anew."""
    return store_at(path).stamps([MANIFEST])


def _build(study: Study, wanted: Wanted, device: torch.device, progress: Progress) -> Place:
    """Where the cache for these inputs lies, built and noted."""
    source, left_out, split = _load(study, wanted, progress)
    shown = (source, split) if wanted.val is None else open_drives(study, frames_wanted(study))
    _require_apart(source, split)
    encoder = open_encoder(study, wanted.inputs, *shown, device, progress)
    pin = find_pin(study, wanted.inputs, source)
    if pin is not None and set(split.train) != set(pin.train_drives):
        progress.say(
            f"the study's encoder {pin.digest} stays as it was pretrained, on {len(pin.train_drives)} drives "
            f"(another one: {AGAIN})"
        )
    path = build_cache(
        source,
        split,
        wanted.inputs.windows,
        encoder,
        wanted.inputs.cache.variants,
        study.cache_home,
        progress,
        device,
        _plugin_code(wanted.inputs),
        study.caches,
    )
    note = {
        "name": wanted.name,
        "cache_id": path.stem,
        "encoder": pin.digest if pin else None,
        "drives": source.drive_ids(),
        "left_out": left_out,
        "inputs": wanted.inputs.to_json(),
    }
    for place in (_note_path(study, wanted), study.caches / "inputs" / LATEST):
        if place.name != LATEST or CONTROL in wanted.levers:
            write_json_atomic(place, {"digest": digest_json(note), "note": note})
    return path


def _require_apart(source: Source, split: Split) -> None:
    """Raises CacheMismatchError for one recording that trains under one name and validates under another."""
    validates = {source.digest(name): name for name in split.val if name not in split.train}
    for name in split.train:
        twin = validates.get(source.digest(name))
        if twin is not None:
            raise CacheMismatchError(
                f"drives {name!r} and {twin!r} hold the same recording (identical content), and one trains while the "
                f"other validates. Remove one of them, or name it in split.without."
            )


def find_cache(study: Study, wanted: Wanted) -> Place | None:
    """The cache noted for these inputs; None if none was built, or it is gone."""
    return _noted_cache(study, _note_of(study, wanted))


def require_cache(study: Study, wanted: Wanted) -> Cache:
    """The cache for these inputs, opened. Raises MissingError with the next step when it has not been built."""
    path = find_cache(study, wanted)
    if path is None:
        whose = f"study {study.name!r}" if CONTROL in wanted.levers else f"lever {wanted.levers[0]!r}"
        raise MissingError(
            f"{whose} has no cache for its present drives, split, windows and encoder. Build it: flowlab cache build"
        )
    return open_cache(path, expect_id=path.stem)


def prepare_caches(
    study: Study, levers: tuple[str, ...], device: torch.device, progress: Progress = SILENT
) -> list[Prepared]:
    """The caches that the control and these levers need, each built once unless it is there; the control's first."""
    frames = prepare_cache(study, frames_wanted(study), device, progress, prove=True)
    first, *others = wanted_caches(study, val_drives(open_cache(frames.path)), levers)
    done = [
        replace(frames, levers=first.levers),
        *(prepare_cache(study, one, device, progress, prove=True) for one in others),
    ]
    by_path: dict[Place, Prepared] = {}
    for one in done:  # other inputs may make the same cache
        same = by_path.get(one.path)
        by_path[one.path] = one if same is None else replace(same, levers=same.levers + one.levers)
    return sorted(by_path.values(), key=lambda one: CONTROL not in one.levers)


def cache_users(study: Study) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """By the id of a cache, who needs it (control and levers); and the levers whose cache is not built yet."""
    frames = frames_wanted(study)
    path = find_cache(study, frames)
    try:
        val = val_drives(open_cache(path)) if path is not None else None
    except FlowlabError:  # a list of caches names a corrupt one like any other
        val = None
    if val is None:
        return {}, (CONTROL, *study.open_levers)
    users: dict[str, tuple[str, ...]] = {}
    missing: tuple[str, ...] = ()
    for wanted in wanted_caches(study, val, study.open_levers):
        found = find_cache(study, wanted)
        if found is None:
            missing += wanted.levers
        else:
            users[found.stem] = users.get(found.stem, ()) + wanted.levers
    return users, missing


def frames_wanted(study: Study) -> Wanted:
    """The cache of the file's own tables: its validation frames are those that all runs are scored on."""
    levers = (CONTROL,) if study.base.inputs == study.file_setup.inputs else ()
    return Wanted(study.file_setup.inputs, None, levers)


def control_wanted(study: Study) -> Wanted:
    """The control's cache. Raises MissingError where that of the validation frames is not built yet."""
    frames = frames_wanted(study)
    if CONTROL in frames.levers:
        return frames
    val = val_drives(require_cache(study, frames))
    return next(wanted for wanted in wanted_caches(study, val, ()) if CONTROL in wanted.levers)


def wanted_caches(study: Study, val: tuple[str, ...], levers: tuple[str, ...]) -> list[Wanted]:
    """The caches that the control and these levers need, each once, with the levers that need it; the file's first."""
    frames = study.file_setup.inputs
    named: list[tuple[Inputs, list[str]]] = [(frames, [])]
    for lever in dict.fromkeys((CONTROL, *levers)):
        inputs = study.setup(lever).inputs
        same = next((users for found, users in named if found == inputs), None)
        if same is None:
            named.append((inputs, [lever]))
        else:
            same.append(lever)
    return [Wanted(inputs, None if inputs == frames else val, tuple(users)) for inputs, users in named]


def val_drives(cache: Cache) -> tuple[str, ...]:
    """The validation drives of a cache."""
    return tuple(cache.attributes["identity"]["split"]["val"])


def _note_path(study: Study, wanted: Wanted) -> Path:
    return study.caches / "inputs" / f"{wanted.name}.json"


def _note_of(study: Study, wanted: Wanted) -> dict[str, Any] | None:
    """The note of these inputs; None if there is none, or it is that of others."""
    note = _read_note(_note_path(study, wanted))
    return note if note is not None and note["name"] == wanted.name else None


class _Note(BaseModel):
    """Which cache some tables of experiments.toml mean, and what it was built from."""

    model_config = ConfigDict(strict=True)

    name: str
    cache_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    encoder: str | None
    drives: list[str] = []
    left_out: list[str] = []
    inputs: dict[str, Any]


def _read_note(path: Path) -> dict[str, Any] | None:
    """The note at `path`, or None if there is none yet or it is not as written: its cache is then looked for anew."""
    try:
        content = json.loads(path.read_text())
        if digest_json(content["note"]) != content["digest"]:
            return None
        _Note.model_validate(content["note"])
        return content["note"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _noted_cache(study: Study, note: dict[str, Any] | None) -> Place | None:
    path = study.cache_home / f"{note['cache_id']}.zarr" if note else None
    return path if path is not None and is_there(path) and not has_old_layout(path) else None


def _plugin_code(inputs: Inputs) -> dict[str, str]:
    """The digests of the code of a source and an encoder that are not flowlab's own, by kind."""
    names = {"sources": inputs.drives.source, "encoders": inputs.encoder.kind}
    return {kind: digest for kind, name in names.items() if (digest := source_digest(kind, name))}


def _what_changed(study: Study, wanted: Wanted, note: dict[str, Any] | None, found: Place) -> str:
    """What is not as it was when the noted cache was built: recordings, a plug-in's code, the encoder; or ""."""
    try:
        source = open_source(wanted.inputs.drives, study.root, wanted.inputs.split.blocks)
        drives = source.drive_ids()
    except FlowlabError:
        return ""  # recordings that are gone: the cache is what is left of them
    try:
        identity = read_attributes(found)["identity"]
    except CacheCorruptError:
        return ""  # whoever opens it says what is wrong with it
    old = (note or {}).get("drives") or drives
    marks = [f"+ {name}" for name in drives if name not in old] + [f"- {name}" for name in old if name not in drives]
    left_out = (note or {}).get("left_out") or []
    still = left_out_drives(load_drives(source)) if left_out else {}
    marks += [f"+ {name}" for name in left_out if name in drives and name not in still]
    manifest = identity["manifest"]
    marks += [f"~ {name}" for name in drives if name in manifest and source.digest(name) != manifest[name]]
    if marks:
        return f"the recordings of [drives] {wanted.inputs.drives.source} have changed ({shortened(marks)})"
    code = _plugin_code(wanted.inputs)
    for kind, digest in identity.get("plugins", code).items():
        if code.get(kind) != digest:
            return f"the code of the {kind.removesuffix('s')} has changed"
    return what_changed_of_encoder(study, wanted.inputs, source, (note or {}).get("encoder"), identity["encoder"])


MOST_MARKS = 8


def shortened(marks: list[str]) -> str:
    """The first marks, and how many more there are."""
    more = f" and {len(marks) - MOST_MARKS} more" if len(marks) > MOST_MARKS else ""
    return ", ".join(marks[:MOST_MARKS]) + more


def _tell_old_caches(study: Study, progress: Progress) -> None:
    """Name the caches that an earlier flowlab wrote, and that no run can be trained from any more."""
    old = [path.stem for path in find_caches(study.cache_home) if has_old_layout(path)]
    if old:
        progress.say(
            f"of an earlier flowlab, without the speeds that a cache now keeps: {', '.join(old)}. Another cache is "
            f"built beside; remove what you no longer need."
        )


def _tell_changed_tables(study: Study, wanted: Wanted, progress: Progress) -> None:
    """Say which keys of experiments.toml made the control's cache another one."""
    latest = _read_note(study.caches / "inputs" / LATEST)
    if latest is None:
        return
    before, after = (dict(flat_keys(tables)) for tables in (latest["inputs"], wanted.inputs.to_json()))
    keys = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    changes = [f"{key} was {json.dumps(before.get(key))}, is {json.dumps(after.get(key))}" for key in keys]
    if changes and keys != ["encoder.model"]:  # the same weights in another folder are the same encoder
        progress.say(
            f"experiments.toml: {'; '.join(changes)}. The control needs another cache than {latest['cache_id']}, whose "
            f"runs and verdicts stay."
        )
