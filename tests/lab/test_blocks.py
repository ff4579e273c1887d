"""A study of one recording, in time blocks: from its cache to what is refused."""

import shutil
from pathlib import Path

import pytest
import torch

from flowlab.core.errors import CacheMismatchError, FaultyDriveError
from flowlab.core.types import Split
from flowlab.drives.source import open_source
from flowlab.lab.caches import frames_wanted, open_drives, prepare_cache, require_cache
from flowlab.lab.encoders import encoder_key
from flowlab.ledger.connection import read
from flowlab.study.settings import DriveViTSettings
from flowlab.study.study import Study, load_study
from tests.drives.recordings import write_sound
from tests.lab.small_study import CPU, edited, small_text, train, write_small

BLOCKS = 'val = ["drive_00#001", "drive_00#003"]\nblocks = { seconds = 6.0, gap_s = 1.5 }'


def one_recording(folder: Path) -> Study:
    """A study of one drive of 30 s at 10 Hz, in five blocks, of which the second and the fourth validate."""
    study = edited(write_small(folder, ""), "count = 4\nframes = 90", "count = 1\nframes = 300")
    return edited(study, 'val = ["drive_03"]', BLOCKS)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """That study with its cache and a run of the control."""
    study = one_recording(tmp_path_factory.mktemp("blocks"))
    prepare_cache(study, frames_wanted(study), CPU)
    train(study, "control")
    return study


def test_a_cache_of_blocks_shares_no_frame_between_its_sides_and_keeps_the_gap(built):
    cache = require_cache(built, frames_wanted(built))
    train, val = (cache.split(side) for side in ("train", "val"))
    assert train.drive_ids == ("drive_00#000", "drive_00#002", "drive_00#004")
    assert val.drive_ids == ("drive_00#001", "drive_00#003")
    # Windows of 6 + 6 frames. The first block has 60 frames, the others 60 - 14: the 15th comes 1.5 s after the last.
    assert (len(train), len(val)) == (49 + 2 * 35, 2 * 35)
    slots = torch.arange(-5, 7)
    seen = [(side.frame_index[:, -1:] + slots).unique() for side in (train, val)]
    assert (seen[0][:, None] - seen[1]).abs().min() == 15


def test_a_run_is_scored_on_blocks(built):
    scored = read(built.ledger, "select distinct drive from metrics where drive <> '' order by 1").rows
    assert [tuple(row) for row in scored] == [("drive_00#001",), ("drive_00#003",)]


def two_recordings(folder: Path) -> Path:
    """A study of drives a and b, of four blocks each, of which a#001 and b#001 validate."""
    for number, name in enumerate("ab"):
        write_sound(folder / "rec" / name, 100, steering=number / 10)
    text = small_text("").replace('source = "synthetic"\ncount = 4\nframes = 90', 'source = "udacity"\nroot = "rec"')
    blocks = 'val = ["a#001", "b#001"]\nblocks = { seconds = 3.0, gap_s = 0.2 }'
    (folder / "experiments.toml").write_text(text.replace('val = ["drive_03"]', blocks))
    return folder


def test_a_block_that_trains_in_a_copy_of_its_recording_is_refused(tmp_path):
    folder = two_recordings(tmp_path)
    shutil.copytree(folder / "rec" / "b", folder / "rec" / "c")
    study = load_study(folder)
    with pytest.raises(CacheMismatchError, match=r"drives 'c#001' and 'b#001' hold the same recording"):
        prepare_cache(study, frames_wanted(study), CPU)


def test_a_recording_that_is_refused_is_told_whichever_block_of_it_is_named(tmp_path):
    folder = two_recordings(tmp_path)
    log = folder / "rec" / "a" / "driving_log.csv"
    log.write_text(log.read_text().replace(",0.0,", ",12.5,", 9))
    with pytest.raises(FaultyDriveError, match=r"drive 'a' is refused, since 9 of its 100 rows"):
        open_drives(load_study(folder), frames_wanted(load_study(folder)))
    file = folder / "experiments.toml"
    file.write_text(file.read_text().replace('["a#001", "b#001"]', '["b#001"]\nwithout = ["a#000", "a#003"]'))
    assert open_drives(load_study(folder), frames_wanted(load_study(folder)))[1] == Split(
        ("b#000", "b#002", "b#003"), ("b#001",)
    )


def test_an_encoder_of_other_blocks_is_another(tmp_path):
    study = one_recording(tmp_path)
    source = open_source(study.file.drives, study.root)
    settings = study.file.encoder
    assert isinstance(settings, DriveViTSettings)
    cut = encoder_key(settings, study.file.inputs, source, "")
    longer = edited(study, "seconds = 6.0", "seconds = 7.0")
    whole = edited(longer, "blocks = ", "# ")
    assert len({cut, encoder_key(settings, longer.file.inputs, source, "")}) == 2
    assert encoder_key(settings, whole.file.inputs, source, "") == "1426fd39194b0c3a"  # as before there were blocks
