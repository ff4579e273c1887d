"""A study that was written before never changes its meaning unasked: it is told so before anything is built."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowlab.core.errors import StudyError
from flowlab.journal.lines import StudyJournal
from flowlab.lab.ground import open_ground
from flowlab.lab.launch import Where, launch_owed, note_base, note_caches, stand
from flowlab.lab.meaning import require_same_meaning
from flowlab.lab.stacking import stack
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.study.document import parse_document
from flowlab.study.study import Study, build_study, load_study
from flowlab.study.versions import BEFORE, fill_in, spell
from tests.cli.tiny_study import flowlab_here
from tests.lab.small_study import CPU, LEVERS, Said, small_text

WHERE = Where(CPU, "inline")


def study_with(folder: Path, control: str = "", more: str = "") -> Study:
    """The small study in `folder`, with something in its [control]; nothing is written."""
    return build_study(folder, parse_document(small_text(f"{more}\n[control]\n{control}\n")))


def record_base(study: Study, train: tuple[str, ...] = (), **changes: Any) -> None:
    """A base as the flowlab without versions wrote it: a recipe without the new keys. `train`: its train drives."""
    recipe = spell(study_with(study.root, "version = 1").base.to_json()) | changes
    with StudyJournal.of(study.runs) as journal:
        identity = {"split": {"train": list(train), "val": ["drive_03"]}}
        journal.cache(cache_id="k", identity=identity, num_train=9, num_val=3, val_drives_digest="v")
        journal.base(control_digest="c", cache_id="k", evaluation_id="e", stacked=[], recipe=recipe)
    ingest(study.ledger, study.runs)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study whose last base is of version 1, and whose file says no version. Nothing is built, or to be written."""
    folder = tmp_path_factory.mktemp("old")
    (folder / "experiments.toml").write_text(small_text(""))
    study = load_study(folder)
    record_base(study)
    return study


def test_what_differs_is_named_and_what_to_write(old: Study) -> None:
    with pytest.raises(StudyError) as raised:
        require_same_meaning(old)
    differs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in BEFORE.items())
    assert str(raised.value) == (
        f"experiments.toml: the study's runs were made when keys that the file leaves out meant other values "
        f"({differs}), so the control would not be theirs: write version = 1 below [control] to keep what they meant, "
        f"or version = 2 for the published control, which begins a new base."
    )


COMMANDS: dict[str, Callable[[Study], object]] = {
    "run": lambda study: stand(study, ["delta-off"], CPU, Said(), lambda *_: None),
    "run --owed": lambda study: launch_owed(study, WHERE, progress=Said(), show=print, announce=print),
    "stack": lambda study: stack(study, "delta-off"),
    "rule amend": lambda study: flowlab_here(study.root, "rule", "amend", "--reason", "x", code=2),
    "rule seal": lambda study: flowlab_here(study.root, "rule", "seal", code=2),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_told_before_anything_is_built_or_written(old: Study, command: str) -> None:
    before = (old.runs / "study.jsonl").read_bytes()
    if command.startswith("rule"):
        assert "write version = 1 below [control]" in COMMANDS[command](old).stderr  # type: ignore[attr-defined]
    else:
        with pytest.raises(StudyError, match=r"write version = 1 below \[control\]"):
            COMMANDS[command](old)
    assert (old.runs / "study.jsonl").read_bytes() == before
    assert not old.caches.exists()


@pytest.mark.parametrize("command", [("verdict",), ("status",), ("sql", "select * from bases"), ("cache", "list")])
def test_commands_that_only_look_are_answered(old: Study, command: tuple[str, ...]) -> None:
    assert "version" not in flowlab_here(old.root, *command).stderr


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_that_says_its_version_has_decided(old: Study, version: int) -> None:
    require_same_meaning(study_with(old.root, f"version = {version}"))


def test_a_file_that_has_every_key_needs_no_version(old: Study) -> None:
    tables = parse_document(small_text(""))
    require_same_meaning(build_study(old.root, tables | {"control": fill_in(tables["control"], BEFORE)}))


def test_only_the_keys_that_are_left_out_are_named(old: Study) -> None:
    keys = BEFORE.keys() - {"evaluation.clip"}
    tables = parse_document(small_text(""))
    control = fill_in(tables["control"], {key: BEFORE[key] for key in keys} | {"decoder.gate": "gelu"})
    with pytest.raises(StudyError, match=r"meant other values \(evaluation\.clip = false\), so the control"):
        require_same_meaning(build_study(old.root, tables | {"control": control}))


def test_a_key_that_a_stacked_lever_sets_is_not_left_out(tmp_path: Path) -> None:
    lever = '[levers.rotary]\nset = { "decoder.rotary_slots" = true }\n'
    text = small_text(lever).replace("[study]", '[study]\nstacked = ["rotary"]')
    study = build_study(tmp_path, parse_document(text))
    decoder = study.base.to_json()["decoder"]
    assert decoder["rotary_slots"] is True
    record_base(study, decoder={key: decoder[key] for key in decoder if key not in ("gate", "init")})
    with pytest.raises(StudyError, match=r'decoder\.gate = "silu", decoder\.init = "xavier", train\.warmup_from_zero'):
        require_same_meaning(study)


def test_a_base_that_version_2_has_begun_is_not_asked_about(old: Study, tmp_path: Path) -> None:
    study = load_study(Path(shutil.copytree(old.root, tmp_path / "study")))
    with StudyJournal.of(study.runs) as journal:
        recipe = study.base.to_json()
        journal.base(control_digest="d", cache_id="k", evaluation_id="e", stacked=[], recipe=recipe)
    ingest(study.ledger, study.runs)
    require_same_meaning(study_with(study.root, "objective = { delta_weight = 0.5 }"))


@pytest.mark.parametrize(("num_train", "is_told"), [(29, True), (28, False)])
def test_a_pilot_that_was_full_is_told_as_well(tmp_path: Path, num_train: int, is_told: bool) -> None:
    """One drive validates, so 29 trained where there were more; 28 are all that there were, and train still."""
    tables = parse_document(small_text(""))
    tables |= {"control": fill_in(tables["control"], BEFORE), "split": tables["split"] | {"scale": "pilot"}}
    study = build_study(tmp_path, tables)
    drives = tuple(f"drive_{number:02d}" for number in range(num_train))
    record_base(study, drives, split={"scale": "pilot", "val": ["drive_03"]})
    if is_told:
        with pytest.raises(StudyError, match=r"meant other values \(split\.num_train = 29\), so the control"):
            require_same_meaning(study)
    else:
        require_same_meaning(study)


def test_version_1_finds_the_caches_of_before_and_evaluates_as_before(whole: Study) -> None:
    before, now = (open_ground(study_with(whole.root, f"version = {version}")) for version in (1, 2))
    assert before.frames_cache.cache_id == now.frames_cache.cache_id
    assert "clip" not in before.base.evaluation and now.base.evaluation["clip"] is True


def test_a_study_goes_on_under_version_1_and_its_base_stays(copy: Study) -> None:
    study = study_with(copy.root, "version = 1", LEVERS)
    ground = open_ground(study)
    note_caches(study, ground)
    with StudyJournal.of(study.runs) as journal:  # as it was written before: without the new keys
        journal.base(
            control_digest=ground.base.control_digest,
            cache_id=ground.control.cache.cache_id,
            evaluation_id=ground.base.evaluation_id,
            stacked=(),
            recipe=spell(study.base.to_json()),
            thresholds=ground.thresholds,
        )
    ingest(study.ledger, study.runs)
    note_base(study, open_ground(study))
    ingest(study.ledger, study.runs)
    assert read(study.ledger, "select base_id from bases").rows == [(ground.base.base_id,)]
