"""Which encoder is the study's, until when, and what is told where it cannot be the one that was pinned."""

import json
import shutil
from pathlib import Path

import pytest

from flowlab.core.errors import EncoderError
from flowlab.drives.source import open_source
from flowlab.encoder.weights import read_encoder
from flowlab.lab.caches import frames_wanted, open_drives, prepare_caches
from flowlab.lab.encoders import Pin, find_pin, prepare_encoder
from flowlab.study.study import Study, load_study
from tests.cli.tiny_study import flowlab_here
from tests.drives.recordings import write_sound
from tests.lab.small_study import CPU, Said, edited, small_text, write_small


def pin_of(study: Study) -> Pin:
    inputs = study.base.inputs
    pin = find_pin(study, inputs, open_source(inputs.drives, study.root))
    assert pin is not None
    return pin


def encoder_of(study: Study, said: Said, again: bool = False) -> Path:
    source, split = open_drives(study, frames_wanted(study))
    return prepare_encoder(study, study.base.inputs, source, split, CPU, said, again)


def encoder_lines(study: Study) -> list[dict]:
    (journal,) = study.runs.glob("*.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    return [line for line in lines if line.get("kind") == "encoder"]


def test_each_kind_of_encoder_that_levers_need_is_pinned_once(whole: Study) -> None:
    lines = encoder_lines(whole)
    assert len(lines) == 3, "the control's, the narrow one's, the one of a shorter history"
    assert len({line["encoder_key"] for line in lines}) == 3
    assert {tuple(line["train_drives"]) for line in lines} == {("drive_00", "drive_01", "drive_02")}


def test_the_pinned_encoder_is_taken_whatever_was_recorded_since(copy: Study) -> None:
    before, said = pin_of(copy), Said()
    study = edited(copy, "count = 4", "count = 6")
    assert encoder_of(study, said).name == before.file_name
    assert pin_of(study) == before
    assert said.lines == []
    assert len(encoder_lines(study)) == 3


def test_another_one_is_pinned_when_it_is_asked_for(copy: Study) -> None:
    before, said = pin_of(copy), Said()
    study = edited(copy, "count = 4", "count = 6")
    path = encoder_of(study, said, again=True)
    after = pin_of(study)
    assert path.name == after.file_name != before.file_name
    assert after.digest != before.digest
    assert after.train_drives == ("drive_00", "drive_01", "drive_02", "drive_04", "drive_05")
    assert said.lines[0] == "pretraining the encoder on 5 train drives"
    assert (copy.caches / "encoders" / before.file_name).is_file(), "older caches are of it"
    said = Said()
    (done,) = prepare_caches(study, (), CPU, said)
    assert done.is_new
    assert not any("stays as it was" in line for line in said.lines)


def test_asking_again_on_the_same_drives_gives_the_same_encoder_and_no_second_pin(copy: Study) -> None:
    before = pin_of(copy)
    encoder_of(copy, Said(), again=True)
    assert pin_of(copy) == before
    assert len(encoder_lines(copy)) == 3


def test_a_new_encoder_makes_the_control_another_cache_and_says_so(copy: Study) -> None:
    study = edited(copy, 'val = ["drive_03"]', 'val = ["drive_03"]\nwithout = ["drive_02"]')
    encoder_of(study, Said(), again=True)
    study = edited(study, '\nwithout = ["drive_02"]', "")
    said = Said()
    (done,) = prepare_caches(study, (), CPU, said)
    assert done.is_new
    assert f"the study's encoder is now {pin_of(study).digest}: cache " in said.lines[0]
    assert "another is built. Its runs and verdicts stay." in said.lines[0]


def test_an_encoder_that_was_shown_what_now_validates_is_not_used(copy: Study) -> None:
    before, said = pin_of(copy), Said()
    study = edited(copy, 'val = ["drive_03"]', 'val = ["drive_02"]')
    path = encoder_of(study, said)
    assert said.lines[0] == (
        f"the study's encoder {before.digest} was pretrained on drive_02, which now validate: another one takes its "
        f"place"
    )
    assert path.name != before.file_name
    assert pin_of(study).train_drives == ("drive_00", "drive_01", "drive_03")


def test_an_encoder_that_was_shown_a_recording_is_not_used_where_that_validates_under_another_name(
    tmp_path: Path,
) -> None:
    recordings = tmp_path / "rec"
    for number, name in enumerate("abc"):
        write_sound(recordings / name, 24, steering=number / 10)
    text = small_text("").replace('source = "synthetic"\ncount = 4\nframes = 90', 'source = "udacity"\nroot = "rec"')
    (tmp_path / "experiments.toml").write_text(text.replace('["drive_03"]', '["c"]'))
    study, said = load_study(tmp_path), Said()
    before = encoder_of(study, said)
    for old, new in (("b", "x"), ("c", "b"), ("x", "c")):
        (recordings / old).rename(recordings / new)
    again = encoder_of(study, said)
    assert again.name != before.name
    assert f"the study's encoder {read_encoder(before).digest} was pretrained on c, which now validate" in "".join(
        said.lines
    )


def test_a_missing_file_is_trained_anew_and_told(copy: Study) -> None:
    before, said = pin_of(copy), Said()
    (copy.caches / "encoders" / before.file_name).unlink()
    encoder_of(copy, said)
    assert f"the study's encoder {before.digest} is gone from " in said.lines[0]
    assert pin_of(copy).digest == before.digest, "trained on the same drives it is the same"


def test_a_missing_file_that_these_drives_do_not_bring_back_is_refused(copy: Study) -> None:
    """Caches and runs were made with it: another one in its place would pair with them and say nothing."""
    pin = pin_of(copy)
    (copy.caches / "encoders" / pin.file_name).unlink()
    study = edited(copy, 'val = ["drive_03"]', 'val = ["drive_03"]\nwithout = ["drive_02"]')
    with pytest.raises(EncoderError, match=rf"the study's encoder {pin.digest} \(.*\) is gone from .*--again"):
        encoder_of(study, Said())
    assert pin_of(study) == pin


def test_a_levers_encoder_is_shown_the_studys_train_drives_whichever_lever_comes_first(tmp_path: Path) -> None:
    more = '[levers.both]\nset = { "encoder.width" = 8, "drives.count" = 6 }\n'
    study = write_small(tmp_path, more)
    prepare_caches(study, ("both",), CPU, Said())
    inputs = study.setup("both").inputs
    pin = find_pin(study, inputs, open_source(inputs.drives, study.root))
    assert pin is not None
    assert pin.train_drives == ("drive_00", "drive_01", "drive_02"), "not drive_04 and drive_05, which the lever adds"


def test_a_file_that_was_replaced_is_refused(copy: Study) -> None:
    pin = pin_of(copy)
    folder = copy.caches / "encoders"
    other = next(path for path in folder.iterdir() if path.suffix == ".safetensors" and path.name != pin.file_name)
    shutil.copy(other, folder / pin.file_name)
    with pytest.raises(EncoderError, match=rf"and the study has pinned {pin.digest}: the file was replaced\. Put the"):
        encoder_of(copy, Said())
    said = Said()
    encoder_of(copy, said, again=True)  # the way out that the message names
    assert said.lines[0] == "pretraining the encoder on 3 train drives"
    assert pin_of(copy) == pin, "from the same drives, and not the file that somebody put there"


def test_a_file_that_cannot_be_read_is_pretrained_once_more_to_the_same_bytes(copy: Study) -> None:
    pin, said = pin_of(copy), Said()
    path = copy.caches / "encoders" / pin.file_name
    before = path.read_bytes()
    path.write_bytes(b"nonsense")
    encoder_of(copy, said)
    assert f"the study's encoder {pin.digest} is damaged" in said.lines[0]
    assert pin_of(copy) == pin
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_read_and_not_be_made_again_is_named(copy: Study) -> None:
    pin = pin_of(copy)
    (copy.caches / "encoders" / pin.file_name).write_bytes(b"nonsense")
    study = edited(copy, "count = 4", "count = 5")  # another train side than it was shown
    with pytest.raises(EncoderError, match=rf"the study's encoder {pin.digest} \(.*\) is damaged .*--again"):
        encoder_of(study, Said())
    encoder_of(study, Said(), again=True)
    assert pin_of(study).digest != pin.digest


def test_a_pin_outlives_the_ledger(copy: Study) -> None:
    before = pin_of(copy)
    copy.ledger.unlink()
    study = edited(copy, "count = 4", "count = 5")
    encoder_of(study, Said())
    assert pin_of(study) == before


def test_the_command_line_shows_keeps_and_replaces_it(copy: Study) -> None:
    before = pin_of(copy)
    facts = json.loads(flowlab_here(copy.root, "encoder", "show", "--json").stdout)
    assert before.digest in facts.values()
    study = edited(copy, "count = 4", "count = 5")
    assert before.file_name in flowlab_here(study.root, "encoder", "train").stderr
    assert pin_of(study) == before
    assert before.file_name not in flowlab_here(study.root, "encoder", "train", "--again").stderr
    assert pin_of(study).digest != before.digest
