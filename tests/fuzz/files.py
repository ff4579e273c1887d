"""Mutants of what a study keeps beside caches: `python -m tests.fuzz.files --count 1000 --seed 1`.

Encoders, fitted stats, policies, resume files, notes of caches and pieces of builds. Each is refused in one sentence
or made anew (the loader says that there is none), unless it holds exactly what was written. Now and then a mutant is
signed, as by a tool that knows where the digest is: such a file is of other content, and it must be no traceback.
"""

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flowlab.cache.pieces import DIGEST_BYTES, Pieces
from flowlab.core.digest import digest_files, digest_json, fast_digest
from flowlab.core.files import write_json_atomic
from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.encoder.drive_vit import DriveViT, digest_of
from flowlab.encoder.weights import load_encoder, save_encoder
from flowlab.evaluate.stats import fit_stats, load_stats, store_stats
from flowlab.journal.lines import RunJournal
from flowlab.lab.caches import find_cache, frames_wanted
from flowlab.lab.policies import Facts, load_policy_of
from flowlab.lab.run_dir import RunDir
from flowlab.policy.build import build_decoder
from flowlab.study.recipe import ActionSpaceSettings
from flowlab.study.study import load_study
from flowlab.train.checkpoint import POLICY_FILE, RESUME_FILE, Resume, policy_of, save_policy, save_resume
from tests.cli.tiny_study import write_tiny
from tests.encoder.tiny_encoder import TINY as TINY_ENCODER
from tests.fuzz import mutate

CHANNELS = ("gas", "brake", "steering")
RUN, STEPS = "control-7-01234567", 20
SPEC = ConditionSpec(16, (TokenGroup("summary", 2),))
ANEW = "to be made anew"


class Kind(NamedTuple):
    """A kind of file: where it lies, how its content is put into comparable words, and how a changed one is signed.

    `load` returns None where the product makes the file anew.
    """

    path: Path
    load: Callable[[], Any]
    sign: Callable[[], None] | None = None


def bits(tensors: dict[str, Tensor]) -> dict[str, tuple]:
    """Names, types, shapes and bytes of tensors."""
    return {
        name: (str(value.dtype), tuple(value.shape), value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, value in sorted(tensors.items())
    }


def opened(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def encoder_kind(folder: Path) -> Kind:
    encoder = DriveViT(TINY_ENCODER, CHANNELS, True, 3)
    encoder.freeze()
    encoder.summary = {"loss": 0.5}
    path = save_encoder(encoder, folder, "encoder")

    def load() -> Any:
        found = load_encoder(path)
        return found.architecture(), found.digest, bits(found.state_dict())

    def sign() -> None:
        weights, metadata = opened(path)
        metadata["digest"] = digest_of(json.loads(metadata["architecture"]), weights)
        path.write_bytes(safetensors.torch.save(weights, metadata))

    return Kind(path, load, sign)


def stats_kind(folder: Path) -> Kind:
    raw = torch.rand(60, 6, 3, generator=torch.Generator().manual_seed(0))
    path = folder / "stats.json"
    store_stats(path, fit_stats(ActionSpaceSettings(transform="gaussianize-dct"), "repeat", 6, CHANNELS, raw))

    def load() -> Any:
        found = load_stats(path)
        return found and digest_json(found.to_json())

    def sign() -> None:
        content = json.loads(path.read_bytes())
        write_json_atomic(path, {"digest": digest_json(content["stats"]), "stats": content["stats"]})

    return Kind(path, load, sign)


def policy_kind(folder: Path) -> Kind:
    run = folder / RUN
    recipe = load_study(write_tiny(folder / "study", STEPS)).control
    decoder = build_decoder(recipe.decoder, SPEC, 6, 2, [0], torch.device("cpu"))
    facts = Facts(RUN, recipe, SPEC, 6, ("accel", "steering"))
    save_policy(run / POLICY_FILE, policy_of(decoder, 0), facts.to_metadata(STEPS))

    def sign() -> None:
        (run / "journal.jsonl").unlink(missing_ok=True)
        with RunJournal.of(folder, RUN) as journal:
            journal.artifact(POLICY_FILE, digest_files([run / POLICY_FILE]), 1)

    def load() -> Any:
        found = load_policy_of(run)
        return found.facts, found.step, bits(policy_of(found.decoder, 0))

    sign()
    return Kind(run / POLICY_FILE, load, sign)


def journal_kind(policy: Kind) -> Kind:
    """The journal that says which policy is a run's: a policy must be the same, or refused."""
    return Kind(policy.path.parent / "journal.jsonl", policy.load)


def resume_kind(folder: Path) -> Kind:
    run = folder / RUN
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([0.1, -1e-38, 3e38])}
    moments = {f"{kind}.{name}": value / 7 for kind in ("exp_avg", "exp_avg_sq") for name, value in weights.items()}
    average = {name: value / 3 for name, value in weights.items()}
    run.mkdir(parents=True)
    save_resume(run / RESUME_FILE, Resume(7, weights, moments, average), RUN)

    def load() -> Any:
        found = RunDir(run).resume(STEPS)
        return found and (found.step, bits(found.weights), bits(found.moments), bits(found.average))

    def sign() -> None:
        tensors, metadata = opened(run / RESUME_FILE)
        named = {kind: {} for kind in ("weight", "moment", "average")}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            named.get(kind, {})[rest] = value
        step = int(metadata["step"])
        save_resume(run / RESUME_FILE, Resume(step, *named.values()), metadata["run_id"])

    return Kind(run / RESUME_FILE, load, sign)


def note_kind(folder: Path) -> Kind:
    study = load_study(write_tiny(folder / "noted", STEPS))
    wanted = frames_wanted(study)
    for name in ("0123456789abcdef", "fedcba9876543210"):
        (study.caches / f"{name}.zarr").mkdir(parents=True)
    path = study.caches / "inputs" / f"{wanted.name}.json"
    note = {
        "name": wanted.name,
        "cache_id": "0123456789abcdef",
        "encoder": "e" * 16,
        "drives": ["drive_00"],
        "inputs": wanted.inputs.to_json(),
    }

    def put(note: Any) -> None:
        write_json_atomic(path, {"digest": digest_json(note), "note": note})

    put(note)
    return Kind(path, lambda: find_cache(study, wanted), lambda: put(json.loads(path.read_bytes())["note"]))


def piece_kind(folder: Path) -> Kind:
    pieces = Pieces(folder / "pieces")
    pieces.write("drive/é", {"action": np.arange(12, dtype=np.float32), "frames": np.arange(4)})
    (path,) = (folder / "pieces").iterdir()

    def load() -> Any:
        found = pieces.read("drive/é")
        return found and {name: (str(value.dtype), value.shape, value.tobytes()) for name, value in found.items()}

    def sign() -> None:
        content = path.read_bytes()[DIGEST_BYTES:]
        path.write_bytes(fast_digest("drive/é".encode(), content).encode() + content)

    return Kind(path, load, sign)


def kinds(folder: Path) -> dict[str, Kind]:
    policy = policy_kind(folder / "runs")
    return {
        "encoder": encoder_kind(folder),
        "stats": stats_kind(folder),
        "policy": policy,
        "journal of a policy": journal_kind(policy),
        "resume": resume_kind(folder / "others"),
        "note": note_kind(folder),
        "piece": piece_kind(folder),
    }


def header_changed(content: bytes, chance: random.Random) -> bytes:
    """A safetensors file whose JSON header was edited, with its length put right."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = mutate.json_changed(content[8:end], chance)
    return len(header).to_bytes(8, "little") + header + content[end:]


def tensors_changed(path: Path, chance: random.Random) -> None:
    """The file once other tensors or metadata were saved in it by the library that wrote it."""
    tensors, metadata = opened(path)
    name = chance.choice(sorted(tensors))
    value = tensors[name]
    how = chance.randrange(9)
    if how == 0 and value.numel():
        value.reshape(-1)[chance.randrange(value.numel())] += 1
    elif how == 1 and value.is_floating_point():
        value.reshape(-1)[:1] = chance.choice([float("nan"), float("inf"), -0.0])
    elif how == 2:
        tensors[name] = value.reshape(-1)[: chance.randrange(value.numel() + 1)].clone()
    elif how == 3:
        tensors[name] = value.to(chance.choice([torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]))
    elif how == 4:
        del tensors[name]
    elif how == 5:
        tensors[chance.choice(["more", "", "weight.", "é", name + ".x"])] = torch.ones(2)
    elif how == 6 and metadata:
        del metadata[chance.choice(sorted(metadata))]
    elif metadata:
        key = chance.choice(sorted(metadata))
        metadata[key] = chance.choice(
            ["", "0", "-1", "nan", "[]", "{}", "null", "9" * 30, "[" * 5000, metadata[key][:-1]]
        )
        if how == 8:
            metadata[chance.choice(sorted(metadata))] = _json_or_text(metadata[key], chance)
    path.write_bytes(safetensors.torch.save(tensors, metadata))


def _json_or_text(text: str, chance: random.Random) -> str:
    try:
        return json.dumps(mutate.value_changed(json.loads(text), chance))
    except (ValueError, RecursionError):
        return text[::-1]


def change(kind: Kind, content: bytes, chance: random.Random) -> None:
    """Make a mutant of the file. What a library refuses to write is written as damaged bytes."""
    how = chance.random()
    try:
        if kind.path.suffix == ".safetensors" and how < 0.3:
            tensors_changed(kind.path, chance)
        elif kind.path.suffix == ".safetensors" and how < 0.6:
            kind.path.write_bytes(header_changed(content, chance))
        elif kind.path.suffix == ".json" and how < 0.6:
            kind.path.write_bytes(mutate.json_changed(content, chance))
        elif kind.path.suffix == ".jsonl" and how < 0.7:
            kind.path.write_bytes(mutate.json_changed(content, chance) + b"\n")
        elif kind.path.suffix == ".piece" and how < 0.3:
            kind.path.write_bytes(content[:16] + header_changed(content[16:], chance))
        else:
            kind.path.write_bytes(mutate.damaged(content, chance))
    except (ValueError, RuntimeError, UnicodeError, SafetensorError, TypeError, OverflowError):
        kind.path.write_bytes(mutate.damaged(content, chance))


def signed(kind: Kind) -> bool:
    """Whether the mutant could be signed."""
    if kind.sign is None:
        return False
    try:
        kind.sign()
    except Exception:  # what cannot be read cannot be signed either
        return False
    return True


def run(count: int, seed: int) -> mutate.Tally:
    tally = mutate.Tally()
    with tempfile.TemporaryDirectory() as folder:
        found = kinds(Path(folder))
        expected = {name: kind.load() for name, kind in found.items()}
        assert all(expected.values())
        for number in range(count):
            chance = random.Random(f"{seed} {number}")
            name = list(found)[number % len(found)]
            kind = found[name]
            beside = [path for path in kind.path.parent.iterdir() if path.is_file()]
            before = {path: path.read_bytes() for path in beside}
            change(kind, before[kind.path], chance)
            forged = chance.random() < 0.2 and signed(kind)

            def look(name: str = name, kind: Kind = kind, forged: bool = forged) -> str:
                content = kind.load()
                if content is None:
                    return ANEW
                if forged:
                    return "taken, as it was signed"
                assert content == expected[name], f"{name} was taken for what it is not"
                return "taken as it was"

            tally.attempt(f"seed {seed} {number}, {name}{', signed' * forged}", look)
            for path, content in before.items():
                path.write_bytes(content)
    return tally


if __name__ == "__main__":
    mutate.main(run, 1000)
