"""`flowlab drives|encoder|cache`: from recordings to a cache."""

from typing import Annotated, Any

import typer

from flowlab.cli.options import Device, DeviceOption, JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, out, print_json, say, table
from flowlab.core.errors import MissingError, StudyError
from flowlab.study.settings import CarRacingDrives


def drives_record(study: StudyOption = None, as_json: JsonOption = False) -> None:
    """Record the simulator's drives that are not there yet."""
    from flowlab.drives.carracing import record

    found = open_study(study)
    settings = found.file.drives
    if not isinstance(settings, CarRacingDrives):
        raise StudyError(
            f"drives of source {getattr(settings, 'source', '')!r} are not recorded by flowlab, only read. "
            f"Look at them: flowlab drives show"
        )
    new = record(settings, found.root, Bars())
    say(f"recorded {len(new)} drives; {settings.count - len(new)} were there already")
    if as_json:
        print_json({"recorded": new})


def drives_show(study: StudyOption = None, as_json: JsonOption = False) -> None:
    """Every drive: its length, who drove where, which side of the split it is on, and what could not be used."""
    from flowlab.lab.drives import describe_drives

    found = open_study(study)
    drives = describe_drives(found)
    if as_json:
        print_json(drives)
        return
    facts = ["drive_id", "side", "driver", "track", "frames", "seconds", "hz", "windows"]
    slices = list(drives[0]["slices"])
    rows = [[*(d[c] for c in facts), *(d["slices"][c] for c in slices), len(d["skipped"])] for d in drives]
    out().print(table([*facts, *slices, "skipped"], rows, f"drives of study {found.name}"))
    for drive in drives:
        for reason in drive["skipped"]:
            say(f"{drive['drive_id']}: {reason}")


def encoder_train(study: StudyOption = None, device: DeviceOption = Device.auto, as_json: JsonOption = False) -> None:
    """Pretrain the encoder on the train drives and freeze it, unless that has been done."""
    from flowlab.lab.environment import choose_device
    from flowlab.lab.prepare import open_drives, prepare_encoder

    found = open_study(study)
    bars = Bars()
    where = choose_device(device.value)
    source, split = open_drives(found, bars)
    path = prepare_encoder(found, source, split, where, bars)
    say(f"the frozen encoder is {path.relative_to(found.root)}")
    if as_json:
        print_json({"path": str(path)})


def encoder_show(study: StudyOption = None, as_json: JsonOption = False) -> None:
    """The study's frozen encoder: its condition, its weights, and how well its pretraining went."""
    from flowlab.encoder.weights import describe_encoder
    from flowlab.lab.prepare import find_study_encoder

    found = open_study(study)
    path = find_study_encoder(found)
    if path is None:
        raise MissingError("this study's encoder is not trained yet. Train it: flowlab encoder train")
    facts = describe_encoder(path)
    if as_json:
        print_json(facts)
    else:
        out().print(table(["encoder", ""], list(_flat(facts).items())))


def cache_build(study: StudyOption = None, device: DeviceOption = Device.auto, as_json: JsonOption = False) -> None:
    """Build the cache, and first whatever it needs: recordings, the frozen encoder."""
    from flowlab.cache.catalogue import describe_cache
    from flowlab.lab.environment import choose_device
    from flowlab.lab.prepare import prepare_cache

    found = open_study(study)
    path, built = prepare_cache(found, choose_device(device.value), Bars())
    facts = describe_cache(path)
    if as_json:
        print_json(facts)
    else:
        state = "built" if built else "nothing to do, there is"
        windows = f"{facts['num_train']:,} train and {facts['num_val']:,} validation windows"
        say(f"{state} {path.relative_to(found.root)}: {windows}")
        if facts["dropped"]:
            say(f"dropped as not finite: {facts['dropped']}")


def cache_list(study: StudyOption = None, as_json: JsonOption = False) -> None:
    """Every cache in the study's folder, whole or half built."""
    from flowlab.cache.catalogue import list_caches

    found = open_study(study)
    caches = list_caches(found.caches)
    if as_json:
        print_json(caches)
        return
    columns = list(caches[0]) if caches else ["cache_id"]
    out().print(table(columns, [[cache[column] for column in columns] for cache in caches]))


def cache_show(
    cache_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Without it, the study's own cache.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read every byte and compare it with its digest.")] = False,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """One cache: what is in it, what it was built from, what was dropped."""
    from flowlab.cache.catalogue import describe_cache
    from flowlab.cache.verify import verify_cache
    from flowlab.core.errors import unknown_name
    from flowlab.lab.prepare import require_cache

    found = open_study(study)
    if cache_id is None:
        path = require_cache(found).path
    else:
        path = found.caches / f"{cache_id}.zarr"
        if not path.is_dir():
            raise unknown_name("cache", cache_id, [file.stem for file in found.caches.glob("*.zarr")])
    if verify:
        verify_cache(path, Bars())
        say("every chunk is as it was written")
    facts = describe_cache(path)
    if as_json:
        print_json(facts)
    else:
        out().print(table(["cache", ""], list(_flat(facts).items())))


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts as one level of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat
