"""`flowlab drives|encoder|cache`: from recordings to a cache."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flowlab.cli.options import Device, DeviceOption, JsonOption, StudyOption, open_study, parse_levers, tell_idle_keys
from flowlab.cli.screen import Bars, out, print_json, say, table
from flowlab.core.errors import CacheCorruptError, StudyError
from flowlab.core.stores import Place
from flowlab.study.settings import CarRacingDrives

DownloadOption = Annotated[
    bool,
    typer.Option(
        "--download",
        help="Fetch a Hugging Face model that is not here. Nothing else uses the network, but for buckets.",
    ),
]
MOST_NAMED = 3
"""Levers that a line names; the others are counted."""


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
    """Drives: length, rate, channels, who drove where, which side of the split, and what could not be used."""
    from flowlab.cli.drives_page import show_drives
    from flowlab.lab.drive_facts import describe_drives

    found = open_study(study)
    described = describe_drives(found)
    if as_json:
        print_json(described.drives)
    else:
        show_drives(found.name, described)
    if described.error:
        raise described.error


def encoder_train(
    again: Annotated[
        bool, typer.Option("--again", help="Pretrain on the present train drives, and take that one from now on.")
    ] = False,
    download: DownloadOption = False,
    study: StudyOption = None,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """Pretrain the encoder on the train drives and freeze it, unless the study has one."""
    from flowlab.lab.caches import control_wanted, open_drives
    from flowlab.lab.encoder_kinds import fetch_models, is_trained_here, require_no_plugin
    from flowlab.lab.encoders import prepare_encoder
    from flowlab.lab.environment import choose_device

    found = open_study(study)
    inputs = found.base.inputs
    require_no_plugin(inputs.encoder)
    bars = Bars()
    if download:
        fetch_models(found, [inputs], bars)
    if not is_trained_here(inputs.encoder):
        say("there is nothing to train: with encoder.temporal = 'none' the encoder comes frozen")
        if as_json:
            print_json({"path": None})
        return
    source, split = open_drives(found, control_wanted(found), bars)
    path = prepare_encoder(found, inputs, source, split, choose_device(device.value), bars, again)
    say(f"the frozen encoder is {path.relative_to(found.root)}")
    if as_json:
        print_json({"path": str(path)})


def encoder_show(study: StudyOption = None, as_json: JsonOption = False) -> None:
    """The study's frozen encoder: its condition, its weights, and how well its pretraining went."""
    from flowlab.cli.judge import ingest_all
    from flowlab.lab.encoders import describe_study_encoder

    found = open_study(study)
    ingest_all(found)
    facts = describe_study_encoder(found, found.base.inputs)
    if as_json:
        print_json(facts)
    else:
        out().print(table(["encoder", ""], list(_flat(facts).items())))


def cache_build(
    lever: Annotated[str | None, typer.Option(help="The caches of this lever and the control alone.")] = None,
    download: DownloadOption = False,
    study: StudyOption = None,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """Build the caches that the control and the levers need, and first what these lack: recordings, the encoder."""
    from flowlab.cache.catalogue import describe_cache
    from flowlab.evaluate.diagnose.rank import describe_rank
    from flowlab.lab.caches import prepare_caches
    from flowlab.lab.encoder_kinds import fetch_models
    from flowlab.lab.environment import choose_device

    found = open_study(study)
    levers = found.open_levers if lever is None else tuple(parse_levers(lever, found))
    for name in levers:
        tell_idle_keys(found, name)
    for name, reason in found.overtaken.items() if lever is None else ():
        say(f"note: lever {name} is left out, it does not go with what is stacked: {reason}")
    bars = Bars()
    if download:
        setups = [found.file_setup, found.base, *(found.setup(name) for name in levers)]
        fetch_models(found, [setup.inputs for setup in setups], bars)
    done = prepare_caches(found, levers, choose_device(device.value), bars)
    facts = [describe_cache(one.path) | describe_rank(one.path) | {"levers": list(one.levers)} for one in done]
    if as_json:
        print_json(facts[0] | {"caches": facts})
        return
    for one, fact in zip(done, facts, strict=True):
        state = "built" if one.is_new else "nothing to do, there is"
        windows = f"{fact['num_train']:,} train and {fact['num_val']:,} validation windows"
        say(f"{state} {_shown(one.path, found.root)}: {windows}, for {shown_levers(one.levers)}")
        if one.is_new:
            told = (
                f"{fact['effective_rank']:.1f} directions (effective rank over {fact['rank_windows']:,} train windows)"
            )
            say(f"its condition tokens vary in about {told}")
        if fact["dropped"]:
            say(f"dropped as not finite: {fact['dropped']}")


def cache_list(study: StudyOption = None, as_json: JsonOption = False) -> None:
    """Every cache in the study's folder, whole or half built, and which levers need it."""
    from flowlab.cache.catalogue import list_caches
    from flowlab.lab.caches import cache_users

    found = open_study(study)
    users, missing = cache_users(found)
    caches = [cache | {"levers": list(users.get(cache["cache_id"], ()))} for cache in list_caches(found.cache_home)]
    if as_json:
        print_json(caches)
        return
    rows = [
        [
            *(cache[name] for name in ("cache_id", "state", "train", "val")),
            _tokens(cache["condition"]),
            f"{cache['megabytes']:.1f}",
            shown_levers(tuple(cache["levers"])),
        ]
        for cache in caches
    ]
    out().print(table(["cache", "state", "train", "val", "tokens", "MB", "needed by"], rows))
    if missing:
        say(f"not built yet: the cache for {shown_levers(missing)}. Build it: flowlab cache build")


def _tokens(condition: str | None) -> str:
    """ "12 x 384" for a condition of 12 tokens of width 384."""
    return (condition or "").partition(" (")[0].replace(" tokens of width ", " x ")


def shown_levers(levers: tuple[str, ...]) -> str:
    """Who needs a cache, in a few words."""
    if len(levers) > MOST_NAMED:
        return f"{', '.join(levers[:MOST_NAMED])} and {len(levers) - MOST_NAMED} more"
    return ", ".join(levers)


def cache_show(
    cache_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Without it, the study's own cache.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read every byte and compare it with its digest.")] = False,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """One cache: what is in it, what it was built from, what was dropped."""
    from flowlab.cache.catalogue import describe_cache
    from flowlab.cache.places import find_caches, is_there
    from flowlab.cache.verify import verify_cache
    from flowlab.core.errors import unknown_name
    from flowlab.evaluate.diagnose.rank import describe_rank
    from flowlab.lab.caches import control_wanted, require_cache

    found = open_study(study)
    if cache_id is None:
        path = require_cache(found, control_wanted(found)).path
    else:
        path = found.cache_home / f"{cache_id}.zarr"
        if not is_there(path):
            raise unknown_name("cache", cache_id, [place.stem for place in find_caches(found.cache_home)])
    if verify:
        verify_cache(path, Bars())
        say("every chunk is as it was written")
    facts = describe_cache(path) | describe_rank(path)
    if as_json:
        print_json(facts)
    else:
        out().print(table(["cache", ""], list(_flat(facts).items())))


def cache_verify(study: StudyOption = None, as_json: JsonOption = False) -> None:
    """Read every cache, encoder and file of stats whole, and say which are not what was written."""
    from flowlab.lab.proofs import prove_all

    found = open_study(study)
    proofs = prove_all(found, Bars())
    faults = [proof.fault for proof in proofs if proof.fault]
    if as_json:
        print_json([{"path": _shown(proof.path, found.root), "fault": proof.fault} for proof in proofs])
    else:
        rows = [[_shown(proof.path, found.caches), "damaged" if proof.fault else "whole"] for proof in proofs]
        out().print(table(["in caches/", "state"], rows))
    for fault in faults:
        say(f"damaged: {fault}")
    if faults:
        raise CacheCorruptError(f"{len(faults)} of {len(proofs)} are not what was written; the lines above say which.")


def _shown(place: Place, root: Path) -> str:
    """The place within a folder, or the whole of it where it is elsewhere."""
    return str(place.relative_to(root) if isinstance(place, Path) and place.is_relative_to(root) else place)


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts as one level of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat
