"""Which caches control and levers need, that each is built once, and what is said when one is built anew."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from flowlab.core.errors import CacheMismatchError, LeftOutDriveError, MissingError, StudyError
from flowlab.core.locks import hold
from flowlab.lab import caches
from flowlab.lab.caches import (
    cache_users,
    control_wanted,
    find_cache,
    frames_wanted,
    prepare_cache,
    prepare_caches,
    require_cache,
    val_drives,
    wanted_caches,
)
from flowlab.lab.ground import open_ground
from flowlab.study.study import Study, load_study
from tests.cli.tiny_study import command, flowlab_here
from tests.lab.small_study import CPU, Said, Then, edited, small_text, write_small

VAL = ("drive_03",)


def ids(study: Study) -> dict[str, str]:
    """The cache of the control and of each lever."""
    users, missing = cache_users(study)
    assert missing == ()
    return {lever: cache_id for cache_id, levers in users.items() for lever in levers}


def test_levers_with_equal_inputs_share_a_cache_and_each_other_input_has_its_own(whole: Study) -> None:
    found = ids(whole)
    assert {name for name, cache_id in found.items() if cache_id == found["control"]} == {
        "control",
        "delta-off",
        "placebo",
        "same-width",
    }
    assert found["narrow"] == found["narrow-slow"]
    assert found["fewer"] == found["fewer-own"]
    assert len(set(found.values())) == 6, "control, narrow, fewer, short, more, normal-only"
    assert len(list(whole.caches.glob("*.zarr"))) == 6


@pytest.mark.parametrize(
    ("lever", "parts"),
    [
        ("narrow", {"encoder", "spec"}),
        ("fewer", {"split", "manifest"}),
        ("more", {"split", "manifest"}),
        ("short", {"windows", "encoder", "spec"}),
        ("normal-only", {"variants"}),
    ],
)
def test_a_lever_on_an_input_changes_that_part_of_its_cache_and_no_other(
    whole: Study, lever: str, parts: set[str]
) -> None:
    ground = open_ground(whole, [lever])
    control, own = (supply.cache.attributes["identity"] for supply in (ground.control, ground.supplies[lever]))
    assert {part for part in control if control[part] != own[part]} == parts - (
        {"spec"} if control["spec"] == own["spec"] else set()
    )
    assert own["split"]["val"] == control["split"]["val"] == ["drive_03"]


def test_more_and_fewer_drives_train_as_the_levers_say(whole: Study) -> None:
    ground = open_ground(whole, ["fewer", "more"])
    train = {name: supply.cache.attributes["identity"]["split"]["train"] for name, supply in ground.supplies.items()}
    assert train == {
        "control": ["drive_00", "drive_01", "drive_02"],
        "fewer": ["drive_00", "drive_02"],
        "more": ["drive_00", "drive_01", "drive_02", "drive_04", "drive_05"],
    }


def test_the_wanted_caches_are_the_files_first_and_those_of_the_levers_that_are_asked_for(whole: Study) -> None:
    wanted = wanted_caches(whole, VAL, ("narrow", "placebo", "narrow-slow"))
    assert [one.levers for one in wanted] == [("control", "placebo"), ("narrow", "narrow-slow")]
    assert [one.val for one in wanted] == [None, VAL]
    assert [one.levers for one in wanted_caches(whole, VAL, ())] == [("control",)]


def test_a_lever_alone_has_its_cache_built_and_no_others_have(tmp_path: Path) -> None:
    study = write_small(tmp_path)
    done = prepare_caches(study, ("fewer",), CPU)
    assert [(one.levers, one.is_new) for one in done] == [(("control",), True), (("fewer",), True)]
    users, missing = cache_users(study)
    assert sorted(users.values()) == [
        ("control", "delta-off", "placebo", "same-width"),
        ("fewer", "fewer-own"),
    ]
    assert missing == ("narrow", "narrow-slow", "short", "more", "normal-only")


def test_nothing_is_built_or_said_a_second_time(copy: Study) -> None:
    prepare_caches(copy, copy.open_levers, CPU)  # the copied files are read once
    before = sorted(copy.caches.rglob("*"))
    said = Said()
    done = prepare_caches(copy, copy.open_levers, CPU, said)
    assert [one.is_new for one in done] == [False] * 6
    assert said.lines == []
    assert sorted(copy.caches.rglob("*")) == before


def test_a_drive_that_fails_twice_for_one_reason_ends_the_build(tmp_path: Path, monkeypatch) -> None:
    """Else a source that forgets what it found while images were read would be asked for ever."""
    study = write_small(tmp_path)
    tried = []

    def fail(*_: object) -> Path:
        tried.append(1)
        raise LeftOutDriveError("a frame cannot be decoded", "drive 'a' cannot be used: frame 8 cannot be decoded.")

    monkeypatch.setattr(caches, "_build", fail)
    with pytest.raises(LeftOutDriveError, match="frame 8"):
        prepare_cache(study, frames_wanted(study), CPU)
    assert len(tried) == 2


def test_no_cache_means_that_all_levers_lack_theirs(tmp_path: Path) -> None:
    study = write_small(tmp_path)
    assert cache_users(study) == ({}, ("control", *study.levers))
    with pytest.raises(MissingError, match=r"study 'tiny' has no cache for its present drives.* flowlab cache build"):
        require_cache(study, frames_wanted(study))


def test_a_cache_that_was_deleted_is_built_again_and_no_other_is(copy: Study) -> None:
    before = ids(copy)
    shutil.rmtree(copy.caches / f"{before['narrow']}.zarr")
    assert cache_users(copy)[1] == ("narrow", "narrow-slow")
    with pytest.raises(MissingError, match="lever 'narrow' has no cache"):
        open_ground(copy, ["narrow"])
    done = prepare_caches(copy, copy.open_levers, CPU)
    assert [one.levers for one in done if one.is_new] == [("narrow", "narrow-slow")]
    assert ids(copy) == before


def test_a_list_of_caches_survives_a_corrupt_one(copy: Study) -> None:
    path = find_cache(copy, frames_wanted(copy))
    assert path is not None
    (path / "zarr.json").write_text("{")
    assert cache_users(copy) == ({}, ("control", *copy.levers))


NOTES = {
    "torn": lambda text: text[: len(text) // 2],
    "empty": lambda _: "",
    "another cache": lambda text: text.replace('"cache_id"', '"cache_di"'),
    "a list": lambda _: "[]",
    "a path": lambda text: json.dumps({"cache_id": "../elsewhere"}),
}


@pytest.mark.parametrize("change", NOTES)
def test_a_note_that_was_changed_is_no_note_and_is_written_anew(copy: Study, change: str) -> None:
    before = ids(copy)
    for path in (copy.caches / "inputs").iterdir():
        path.write_text(NOTES[change](path.read_text()))
    assert cache_users(copy)[1] == ("control", *copy.levers)
    done = prepare_caches(copy, ("narrow",), CPU)
    assert [one.is_new for one in done] == [False, False], "the caches are found by their content"
    assert {name: cache_id for name, cache_id in before.items() if name in ("control", "narrow")}.items() <= {
        lever: cache_id for cache_id, levers in cache_users(copy)[0].items() for lever in levers
    }.items()


def test_a_note_that_names_another_levers_cache_is_not_believed(copy: Study) -> None:
    """Else runs would be trained from a cache that the lever does not mean, and nothing would tell."""
    notes = copy.caches / "inputs"
    wanted = {one.levers[0]: one for one in wanted_caches(copy, VAL, copy.open_levers)}
    narrow, fewer = (notes / f"{wanted[lever].name}.json" for lever in ("narrow", "fewer"))
    narrow.write_text(narrow.read_text().replace(ids(copy)["narrow"], ids(copy)["fewer"]))
    assert find_cache(copy, wanted["narrow"]) is None
    narrow.write_text(fewer.read_text())
    assert find_cache(copy, wanted["narrow"]) is None


def test_a_lever_whose_drives_lack_one_that_validates_is_refused_by_name(copy: Study) -> None:
    study = edited(copy, '"drives.count" = 6', '"drives.count" = 3')
    with pytest.raises(CacheMismatchError, match=r"^lever 'more' has no drive drive_03, which validates: every run"):
        prepare_caches(study, ("more",), CPU)


def test_a_lever_that_leaves_out_what_validates_is_refused(copy: Study) -> None:
    study = edited(edited(copy, 'val = ["drive_03"]', "num_val = 1"), '= ["drive_01"]', '= ["drive_03"]')
    with pytest.raises(StudyError, match=r"split\.without names 'drive_03', which validates: only train drives"):
        prepare_caches(study, ("fewer",), CPU)


# The study moves on (must show 6).


def test_one_more_drive_that_trains_makes_another_cache_with_the_same_encoder_and_says_which_key(copy: Study) -> None:
    before = open_ground(copy)
    said = Said()
    study = edited(copy, "count = 4", "count = 5")
    (done,) = prepare_caches(study, (), CPU, said)
    after = open_ground(study)
    assert done.is_new and done.path.stem != before.control.cache.cache_id
    identities = [ground.control.cache.attributes["identity"] for ground in (before, after)]
    assert identities[0]["encoder"] == identities[1]["encoder"]
    assert identities[1]["split"] == {"train": ["drive_00", "drive_01", "drive_02", "drive_04"], "val": ["drive_03"]}
    assert said.lines[0] == (
        f"experiments.toml: drives.count was 4, is 5. The control needs another cache than "
        f"{before.control.cache.cache_id}, whose runs and verdicts stay."
    )
    assert "stays as it was pretrained, on 3 drives (another one: flowlab encoder train --again)" in said.lines[1]
    assert not any("pretraining" in line for line in said.lines)
    assert after.base.evaluation_id == before.base.evaluation_id
    assert after.base.base_id != before.base.base_id
    assert before.control.cache.path.is_dir()
    back = edited(study, "count = 5", "count = 4")
    assert open_ground(back).base == before.base


def write_recording(folder: Path, num: int, shade: int) -> None:
    """`num` frames of one grey at 10 Hz, steering to and fro."""
    (folder / "IMG").mkdir(parents=True)
    lines = []
    for number in range(num):
        name = f"center_2024_01_31_22_05_{number // 10:02d}_{number % 10}00.png"
        Image.new("RGB", (16, 16), (shade, shade, 9 * number % 256)).save(folder / "IMG" / name)
        lines.append(f"IMG/{name},,,{(number % 7 - 3) / 4},0.5,0,10")
    (folder / "driving_log.csv").write_text("center,left,right,steering,throttle,brake,speed\n" + "\n".join(lines))


def recorded(folder: Path) -> Study:
    """A study of three recordings of 48 frames, the last of which validates."""
    for number, name in enumerate(("lake_a/one", "lake_a/two", "lake_b/one")):
        write_recording(folder / "rec" / name, 48, 40 * number)
    text = small_text("")
    text = text.replace('source = "synthetic"\ncount = 4\nframes = 90', 'source = "udacity"\nroot = "rec"')
    (folder / "experiments.toml").write_text(text.replace('["drive_03"]', '["lake_b/one"]'))
    return load_study(folder)


def test_a_recording_that_appears_below_the_root_is_noticed_and_named(tmp_path: Path) -> None:
    study = recorded(tmp_path)
    prepare_caches(study, (), CPU)
    before = open_ground(study)
    write_recording(tmp_path / "rec" / "lake_b" / "two", 48, 200)
    said = Said()
    (done,) = prepare_caches(study, (), CPU, said)
    assert said.lines[0] == (
        f"the recordings of [drives] udacity have changed (+ lake_b/two): cache {before.control.cache.cache_id} is of "
        f"before, another is built. Its runs and verdicts stay."
    )
    after = open_ground(study)
    identities = [ground.control.cache.attributes["identity"] for ground in (before, after)]
    assert done.is_new
    assert identities[0]["encoder"] == identities[1]["encoder"]
    assert identities[1]["split"]["train"] == ["lake_a/one", "lake_a/two", "lake_b/two"]
    assert after.base.evaluation_id == before.base.evaluation_id
    shutil.rmtree(tmp_path / "rec" / "lake_b" / "two")
    said = Said()
    (again,) = prepare_caches(study, (), CPU, said)
    assert "(- lake_b/two)" in said.lines[0]
    assert (again.path, again.is_new) == (before.control.cache.path, False)
    assert open_ground(study).base == before.base
    shutil.rmtree(tmp_path / "rec")
    assert prepare_caches(study, (), CPU)[0].path == before.control.cache.path, "the cache is what is left of them"


def test_a_lever_on_the_roots_trains_on_the_recordings_of_both(tmp_path: Path) -> None:
    study = recorded(tmp_path)
    write_recording(tmp_path / "new" / "hill_a" / "one", 48, 90)
    path = tmp_path / "experiments.toml"
    path.write_text(path.read_text() + '\n[levers.hills]\nset = { "drives.roots" = ["rec", "new"] }\n')
    study = load_study(tmp_path)
    prepare_caches(study, ("hills",), CPU)
    split = open_ground(study, ["hills"]).supplies["hills"].cache.attributes["identity"]["split"]
    assert split == {"train": ["hill_a/one", "lake_a/one", "lake_a/two"], "val": ["lake_b/one"]}


def test_the_controls_cache_after_a_stack_is_the_levers_and_the_validation_frames_stay_the_files(copy: Study) -> None:
    before = ids(copy)
    study = edited(copy, 'rule = "panel"\n', 'rule = "panel"\nstacked = ["fewer"]\n')
    assert frames_wanted(study).levers == ()
    assert control_wanted(study).levers == ("control",)
    assert require_cache(study, control_wanted(study)).cache_id == before["fewer"]
    users, _ = cache_users(study)
    assert users[before["fewer"]] == ("control", "delta-off", "placebo", "fewer-own", "same-width")
    assert users[before["control"]] == (), "it is kept for its validation frames"
    first, *_ = prepare_caches(study, (), CPU)
    assert first.levers == ("control",)
    assert val_drives(require_cache(study, frames_wanted(study))) == VAL


def test_a_plug_in_encoder_of_a_lever_is_asked_with_its_options(copy: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy.root / "my_encoder.py").write_text(
        "from flowlab.encoder.drive_vit import DriveViT\n"
        "from flowlab.study.settings import DriveViTSettings\n"
        "SIZES = dict(image_height=16, image_width=16, image_width_tokens=16, image_layers=1, temporal_layers=1)\n"
        "def build(settings, channels, has_waypoints, history):\n"
        "    own = DriveViTSettings(width=settings.options['wide'], heads=2, **SIZES)\n"
        "    encoder = DriveViT(own, channels, has_waypoints, history)\n"
        "    for number, weight in enumerate(encoder.parameters()):\n"
        "        weight.data.fill_(0.01 * (number % 5 - 2))\n"
        "    encoder.freeze()\n"
        "    return encoder\n"
    )
    monkeypatch.syspath_prepend(copy.root)
    path = copy.root / "experiments.toml"
    lever = '\n[levers.own]\nset = { "encoder.kind" = "my_encoder:build", "encoder.options.wide" = 24 }\n'
    path.write_text(path.read_text() + lever)
    study = load_study(copy.root)
    done = prepare_caches(study, ("own",), CPU)
    assert [one.is_new for one in done] == [False, True]
    assert open_ground(study, ["own"]).supplies["own"].cache.spec.width == 24


def test_two_builds_of_one_cache_leave_one_cache(copy: Study) -> None:
    wanted = next(one for one in wanted_caches(copy, VAL, ("narrow",)) if "narrow" in one.levers)
    first = prepare_cache(copy, wanted, CPU)
    (copy.caches / "inputs" / f"{wanted.name}.json").unlink()  # as if the other process had not come to its note
    assert prepare_cache(copy, wanted, CPU) == first


def test_a_cache_that_another_process_builds_is_waited_for(copy: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(copy)["narrow"]
    shutil.rmtree(copy.caches / f"{before}.zarr")
    monkeypatch.setattr("flowlab.core.locks.TELL_AFTER_S", 0.0)
    other = hold(copy.caches / f"{before}.lock")
    other.__enter__()
    said = Then(lambda: other.__exit__(None, None, None), "waiting for another flowlab process, which builds cache")
    assert open_ground(copy, ["narrow"], CPU, said).supplies["narrow"].cache.cache_id == before
    assert [before in line for line in said.lines if "waiting" in line] == [True]


KILLS_ITSELF = """
import os
from pathlib import Path
from flowlab.encoder.drive_vit import DriveViT
from flowlab.study.settings import DriveViTSettings

MARK = Path(__file__).with_name("killed")


class Killed(DriveViT):
    calls = 0

    def encode_windows(self, *given):
        Killed.calls += 1
        if Killed.calls == 5 and not MARK.exists():  # two variants a drive: this is the third, so the first is kept
            MARK.touch()
            os.kill(os.getpid(), 9)
        return super().encode_windows(*given)


def build(settings, channels, has_waypoints, history):
    sizes = dict(image_height=16, image_width=16, image_width_tokens=16, image_layers=1, temporal_layers=1)
    encoder = Killed(DriveViTSettings(width=16, heads=2, **sizes), channels, has_waypoints, history)
    for number, weight in enumerate(encoder.parameters()):
        weight.data.fill_(0.01 * (number % 5 - 2))
    encoder.freeze()
    return encoder
"""


def test_kill_9_while_a_run_builds_the_cache_of_a_lever_costs_nothing_but_time(copy: Study) -> None:
    (copy.root / "kills_itself.py").write_text(KILLS_ITSELF)
    path = copy.root / "experiments.toml"
    path.write_text(path.read_text() + '\n[levers.own]\nset = { "encoder.kind" = "kills_itself:build" }\n')
    asked = ["run", "--lever", "own", "--seeds", "1001", "--executor", "inline"]
    assert subprocess.run(command(*asked), cwd=copy.root, check=False, stderr=subprocess.PIPE).returncode == -9
    assert (copy.root / "killed").exists()
    listed = json.loads(flowlab_here(copy.root, "cache", "list", "--json").stdout)
    assert [row["state"] for row in listed].count("partial") == 1
    assert list(copy.runs.glob("*/")) == [], "nothing was registered before its cache was there"
    done = json.loads(flowlab_here(copy.root, *asked[:-2], "--executor", "inline", "--json").stdout)
    assert [run_id[:8] for run_id in done["trained"]] == ["control-", "control-", "own-1001"]
    listed = json.loads(flowlab_here(copy.root, "cache", "list", "--json").stdout)
    assert {row["state"] for row in listed} == {"whole"}
    assert ["own"] in [row["levers"] for row in listed]


def test_one_recording_under_two_names_on_both_sides_is_refused(tmp_path: Path) -> None:
    study = recorded(tmp_path)
    shutil.copytree(tmp_path / "rec" / "lake_b" / "one", tmp_path / "rec" / "lake_a" / "copy")
    with pytest.raises(
        CacheMismatchError,
        match="'lake_a/copy' and 'lake_b/one' hold the same recording \\(identical content\\), and one trains",
    ):
        prepare_caches(study, (), CPU)
    assert list(study.caches.glob("*.zarr")) == []


def mended(path: Path) -> None:
    """The log with the sign of its steering turned, as long as before."""
    head, *rows = path.read_text().splitlines()
    cells = [row.split(",") for row in rows]
    assert any(float(row[3]) for row in cells)
    lines = [",".join([*row[:3], f"{-float(row[3]):.6f}", *row[4:]]) for row in cells]
    path.write_text("\n".join([head, *lines]) + "\n")


@pytest.mark.parametrize("which", ["lake_a/two", "lake_b/one"])
def test_a_recording_that_was_mended_under_its_name_is_another_cache(tmp_path: Path, which: str) -> None:
    study = recorded(tmp_path)
    (first,) = prepare_caches(study, (), CPU)
    mended(tmp_path / "rec" / which / "driving_log.csv")
    said = Said()
    (second,) = prepare_caches(study, (), CPU, said)
    assert f"the recordings of [drives] udacity have changed (~ {which})" in said.lines[0]
    assert second.is_new and second.path != first.path


def test_a_recording_that_grew_is_another_cache_also_for_a_run(tmp_path: Path) -> None:
    study = recorded(tmp_path)
    before = open_ground(study, (), CPU)
    shutil.rmtree(tmp_path / "rec" / "lake_a" / "two")
    write_recording(tmp_path / "rec" / "lake_a" / "two", 60, 40)  # the first 48 frames are those of before
    after = open_ground(study, (), CPU)
    assert after.control.cache.num_windows("train") == before.control.cache.num_windows("train") + 12


OWN_ENCODER = """
import torch
from flowlab.core.types import ConditionSpec, TokenGroup
WEIGHT = 1.0

class Own:
    spec = ConditionSpec(8, (TokenGroup("summary", 1),))
    image_height = image_width = 16

    def __init__(self, settings, channels, has_waypoints, history):
        self.digest = f"own-{settings.options.get('weight', WEIGHT)}"

    def to(self, device):
        return self

    def encode_frames(self, images):
        return images.float().mean(dim=(1, 2))

    def encode_windows(self, features, history_action, speed_mps, waypoints):
        return torch.nn.functional.pad(features[:, -1], (0, 5)).unsqueeze(1) * WEIGHT
"""


def test_an_encoder_whose_code_was_edited_or_whose_weights_changed_makes_another_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    study = recorded(tmp_path)
    (tmp_path / "own_encoder_1.py").write_text(OWN_ENCODER)
    path = tmp_path / "experiments.toml"
    text = path.read_text()
    head, _, rest = text.partition("[encoder]")
    path.write_text(f'{head}[encoder]\nkind = "own_encoder_1:Own"\n[{rest.partition("[")[2]}')
    study = load_study(tmp_path)
    prepare_caches(study, (), CPU)
    said = Said()
    (same,) = prepare_caches(study, (), CPU, said)
    assert said.lines == [] and not same.is_new
    (tmp_path / "own_encoder_1.py").write_text(OWN_ENCODER + "# edited\n")
    (edited_one,) = prepare_caches(study, (), CPU, said)
    assert "the code of the encoder has changed" in said.lines[0] and edited_one.path != same.path
    monkeypatch.setattr("own_encoder_1.WEIGHT", 2.0)  # as if a file of weights that it reads were another
    (reweighted,) = prepare_caches(study, (), CPU, said)
    assert any("encoder 'own_encoder_1:Own' has other weights" in line for line in said.lines)
    assert reweighted.path not in (same.path, edited_one.path)
