"""A recording whose rows fail for one reason is refused with that reason; a few rows are left out and counted."""

import random
import re
from pathlib import Path

import pytest
from PIL import Image

from flowlab.core.errors import DriveError, FaultyDriveError
from flowlab.core.types import Drive
from flowlab.drives.faults import drive_reasons, require_sound
from flowlab.drives.udacity import UdacitySource
from tests.drives.recordings import HEADER, image_name, row_of, source_of, write_images, write_log

NUM = 100


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 100 moments, which no test changes."""
    folder = tmp_path_factory.mktemp("images") / "IMG"
    write_images(folder, NUM)
    return folder


@pytest.fixture
def folder(tmp_path: Path, images: Path) -> Path:
    """The folder of a drive `a` with 100 images, whose rows are to be written."""
    (tmp_path / "rec" / "a").mkdir(parents=True)
    (tmp_path / "rec" / "a" / "IMG").symlink_to(images)
    return tmp_path / "rec" / "a"


def with_own_images(folder: Path) -> None:
    (folder / "IMG").unlink()
    write_images(folder / "IMG", NUM)


def sound_rows() -> list[str]:
    return [row_of(number) for number in range(NUM)]


def load(folder: Path, rows: list[str], header: str | None = HEADER, **settings: float) -> Drive:
    write_log(folder, rows, header)
    source: UdacitySource = source_of(folder.parents[1], **settings)
    return source.load("a")


def reasons(drive: Drive) -> dict[str, int]:
    return {reason.text: reason.rows for reason in drive_reasons(drive)}


def test_two_rows_in_a_hundred_are_left_out_and_three_refuse_the_drive(folder):
    rows = sound_rows()
    rows[4:6] = [row_of(4, steering=7), row_of(5, steering=-3)]
    drive = load(folder, rows)
    assert (len(drive), reasons(drive)) == (98, {"steering is out of its range [-1, 1]": 2})
    rows[6] = row_of(6, steering=2)
    with pytest.raises(
        FaultyDriveError, match=r"^drive 'a' is refused, since 3 of its 100 rows \(3\.0%, at most 0\.02"
    ):
        load(folder, rows)


def test_rows_are_counted_for_each_reason_by_itself(folder):
    rows = sound_rows()
    rows[4:6] = [row_of(4, steering=7), row_of(5, steering=-3)]
    rows[8:10] = [row_of(8, brake="nan"), row_of(9, brake="inf")]
    rows[12] = "IMG/x"
    assert reasons(load(folder, rows)) == {
        "steering is out of its range [-1, 1]": 2,
        "brake is not finite": 2,
        "fewer cells than columns": 1,
    }


def test_one_row_of_a_short_drive_is_left_out_and_two_refuse_it(folder):
    rows = sound_rows()[:30]
    rows[7] = row_of(7, steering=25)
    assert len(load(folder, rows)) == 29
    rows[8] = row_of(8, steering=25)
    with pytest.raises(FaultyDriveError, match="2 of its 30 rows"):
        load(folder, rows)


def test_the_share_is_a_setting_and_0_allows_no_row_at_all(folder):
    rows = sound_rows()
    rows[:10] = [row_of(number, steering=25) for number in range(10)]
    assert len(load(folder, rows, max_fault_share=0.1)) == 90
    with pytest.raises(FaultyDriveError, match="10 of its 100 rows"):
        load(folder, rows, max_fault_share=0.09)
    with pytest.raises(FaultyDriveError, match="1 of its 100 rows"):
        load(folder, [row_of(0, steering=25), *sound_rows()[1:]], max_fault_share=0.0)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (
            {"steering": -22.5},
            r"steering is out of its range \[-1, 1\].*from -22\.5 to -22\.5, as in degrees or percent",
        ),
        ({"throttle": 80}, r"throttle is out of its range \[0, 1\].*as in degrees or percent"),
        ({"throttle": -0.4}, r"throttle is out of its range \[0, 1\].*braking is written as negative throttle"),
        ({"brake": 255}, r"brake is out of its range \[0, 1\].*from 255 to 255, as in another unit"),
        ({"speed": 1341}, r"speed is out of its range \[-100, 300\].*as in another unit"),
        ({"brake": "True"}, r"brake is no number.*brake is 'True'"),
        ({"steering": '"0,5"'}, r"steering is no number\. Its numbers seem to have decimal commas"),
        ({"steering": "1_0"}, r"steering is no number"),
    ],
)
def test_a_field_that_often_cannot_be_is_named_with_what_it_may_be_instead(folder, cells, told):
    rows = [row_of(number, **cells) if number % 20 < 6 else row_of(number) for number in range(NUM)]
    with pytest.raises(FaultyDriveError, match=told):
        load(folder, rows)


def with_commas(number: int, header: bool = False) -> str:
    image = f"IMG/{image_name(number)}"
    return f"{image}, {image}, {image}, {'0,5' if number % 4 == 0 else '0'}, 1, 0, {20 + number % 3},19"


@pytest.mark.parametrize("header", [HEADER, None])
def test_decimal_commas_are_named_and_no_row_is_read_by_position(folder, header):
    with pytest.raises(FaultyDriveError, match=r"100 of its 100 rows .* more cells than columns\. .*decimal commas"):
        load(folder, [with_commas(number) for number in range(NUM)], header)


def test_a_column_that_was_put_in_moves_no_value_to_another_column(folder):
    rows = [row_of(number, speed=10.5).replace(",,,", ",,,7,") for number in range(NUM)]
    with pytest.raises(FaultyDriveError, match=r"more cells than columns\. A column was put in"):
        load(folder, rows)


def test_a_path_with_a_comma_is_whole_in_quotes_and_refused_without(folder):
    quoted = [f'"C:\\a, b\\IMG\\{image_name(number)}",,,0.25,0.5,0,10' for number in range(NUM)]
    assert len(load(folder, quoted)) == NUM
    with pytest.raises(FaultyDriveError, match="a text holds a comma that is not in quotes"):
        load(folder, [row.replace('"', "") for row in quoted])


@pytest.mark.parametrize("header", [HEADER, f"{HEADER},", None])
def test_a_comma_after_the_last_cell_of_every_row_is_no_cell(folder, header):
    assert len(load(folder, [f"{row}," for row in sound_rows()], header)) == NUM


def test_a_comma_after_the_last_cell_of_some_rows_is_a_cell_too_many(folder):
    with pytest.raises(FaultyDriveError, match="more cells than columns"):
        load(folder, [f"{row}," if number % 9 == 0 else row for number, row in enumerate(sound_rows())])


@pytest.mark.parametrize(("mark", "name"), [(";", "';'"), ("\t", r"'\\t'")])
def test_cells_that_are_parted_by_another_mark_are_named(folder, mark, name):
    with pytest.raises(FaultyDriveError, match=f"cells parted by {name}"):
        load(folder, [row.replace(",", mark) for row in sound_rows()], HEADER.replace(",", mark))


def test_a_quote_that_is_never_closed_costs_its_own_row(folder):
    rows = sound_rows()
    rows[5] = f'"{rows[5]}'
    drive = load(folder, rows)
    assert (len(drive), reasons(drive)) == (99, {"fewer cells than columns": 1})


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("image,left,right,angle,throttle,brake,speed", "no column 'center'"),
        ("center,left,right,steering,throttle,brake,brake,speed", "2 columns 'brake'"),
        ("center,left,right,throttle,brake,speed", "no column 'steering'"),
    ],
)
def test_a_header_that_does_not_say_which_column_is_which_is_refused(folder, header, told):
    with pytest.raises(DriveError, match=told):
        load(folder, sound_rows(), header)


def test_the_same_header_once_more_is_no_fault_and_another_one_refuses_the_log(folder):
    rows = sound_rows()
    drive = load(folder, [*rows[:50], HEADER, *rows[50:]])
    assert (len(drive), drive.skipped, drive.notes) == (NUM, (), ("1 rows are the header once more",))
    with pytest.raises(DriveError, match="second header at row 50 with other columns"):
        load(folder, [*rows[:50], "center,steering,left,right,throttle,brake,speed", *rows[50:]])


def three_cameras(number: int) -> list[str]:
    centre = row_of(number, steering=0.1)
    left = row_of(number, steering=0.3).replace("center", "left")
    return [centre, left, row_of(number, steering=-0.1).replace("center", "right")]


def test_side_cameras_as_rows_leave_the_centre_rows_and_are_told(folder):
    drive = load(folder, [row for number in range(NUM) for row in three_cameras(number)])
    assert drive.action[:, 2].tolist() == pytest.approx([0.1] * NUM)
    assert drive.skipped == ()
    assert drive.notes == ("200 rows are of the left and right cameras: only those of the centre are used",)


def test_side_cameras_that_cannot_be_told_are_refused_as_rows_of_one_moment(folder):
    rows = [row.replace("left_", "center_").replace("right_", "center_") for n in range(33) for row in three_cameras(n)]
    with pytest.raises(FaultyDriveError, match=r"time stamp that another row has\. Several rows are of one moment"):
        load(folder, rows)


def test_a_log_of_side_cameras_alone_is_refused_as_such(folder):
    with pytest.raises(DriveError, match="no usable row of 0; the first reason is 100 rows are of the left and right"):
        load(folder, [row.replace("center", "left") for row in sound_rows()])


def test_a_shuffled_log_is_used_in_the_order_of_time(folder):
    rows = [row_of(number, steering=number / 100) for number in range(NUM)]
    random.Random(0).shuffle(rows)
    drive = load(folder, rows)
    assert drive.action[:, 2].tolist() == pytest.approx([number / 100 for number in range(NUM)])
    assert drive.frame_index.tolist() == list(range(NUM))
    assert drive.notes == ("its 100 rows were not in the order of their time stamps, by which they are now sorted",)


def test_images_of_a_shuffled_log_are_those_of_its_moments(folder):
    with_own_images(folder)
    Image.new("RGB", (8, 8), (200, 0, 0)).save(folder / "IMG" / image_name(3))
    rows = sound_rows()
    random.Random(0).shuffle(rows)
    drive = load(folder, rows)
    source = source_of(folder.parents[1])
    assert source.images(drive, drive.frame_index[2:5], 8, 8)[:, 0, 0, 0].tolist() == pytest.approx([1, 200, 1], abs=3)


def test_a_shuffled_log_is_another_recording_than_the_same_rows_in_order(folder):
    """An order that was lost is read otherwise, so a cache of another reading is not found by it."""
    rows = sound_rows()
    write_log(folder, rows)
    digests = [source_of(folder.parents[1]).digest("a")]
    random.Random(0).shuffle(rows)
    write_log(folder, rows)
    digests.append(source_of(folder.parents[1]).digest("a"))
    assert digests[0] != digests[1]


@pytest.mark.parametrize("is_shuffled", [True, False])
def test_a_log_that_was_balanced_is_refused_for_the_rows_that_are_missing(folder, is_shuffled):
    rows = [row for number, row in enumerate(sound_rows()) if number % 5 < 3]
    if is_shuffled:
        random.Random(0).shuffle(rows)
    with pytest.raises(FaultyDriveError, match=r"rows are missing: 19 of its 59 time steps .* balanced by taking rows"):
        load(folder, rows)


def test_holes_that_are_allowed_are_told(folder):
    drive = load(folder, [row for number, row in enumerate(sound_rows()) if number % 17 != 5], max_fault_share=0.08)
    assert len(drive.notes) == 1 and drive.notes[0].startswith("rows are missing: 6 of its 93 time steps (6%)")


def test_a_log_that_was_written_twice_is_used_once(folder):
    drive = load(folder, sound_rows() * 2)
    assert drive.frame_index.tolist() == list(range(NUM))
    assert (drive.skipped, drive.notes) == ((), ("100 rows are in the log more than once: each is used once",))


def test_stretches_in_another_order_are_sorted(folder):
    rows = sound_rows()
    for mixed in ([*rows[60:], *rows[:60]], [*rows[:20], *rows[40:60], *rows[20:40], *rows[80:], *rows[60:80]]):
        drive = load(folder, mixed)
        assert (len(drive), drive.skipped) == (NUM, ())


def test_a_clock_that_was_set_back_by_a_second_is_refused(folder):
    with_own_images(folder)
    rows = [row_of(number) for number in range(50)] + [row_of(number, steering=0.5) for number in range(40, 90)]
    rows = [row.replace("00.jpg", "50.jpg") if number >= 50 else row for number, row in enumerate(rows)]
    for number in range(40, 90):
        target = folder / "IMG" / image_name(number).replace("00.jpg", "50.jpg")
        target.unlink(missing_ok=True)
        target.symlink_to(folder / "IMG" / image_name(number))
    with pytest.raises(FaultyDriveError, match=r"9 of its 100 rows .* time stamp that falls"):
        load(folder, rows)


def test_stretches_that_overlap_in_time_are_refused_for_their_order(folder):
    """A clock that was set back: sorted by time, frames of one stretch would lie between those of the other."""
    rows = sound_rows()
    with pytest.raises(FaultyDriveError, match=r"time stamp that falls\. The rows are not in the order"):
        load(folder, [*rows[0:NUM:2], *rows[1:NUM:2]])


def test_stamps_of_whole_seconds_are_named(folder):
    rows = [re.sub(r"_\d00\.jpg", "_000.jpg", row) for row in sound_rows()]
    rows = [row.replace(",0.25,", f",0.{number:02d},") for number, row in enumerate(rows)]
    with pytest.raises(FaultyDriveError, match="stamps were cut to whole seconds"):
        load(folder, rows)


def test_missing_images_and_images_that_cannot_be_decoded_are_two_reasons(folder):
    with_own_images(folder)
    for number in (10, 20):
        (folder / "IMG" / image_name(number)).unlink()
    (folder / "IMG" / image_name(30)).write_bytes(b"no image")
    assert reasons(load(folder, sound_rows())) == {"image is missing": 2, "image cannot be decoded": 1}
    (folder / "IMG" / image_name(40)).unlink()
    with pytest.raises(
        FaultyDriveError, match=r"image is missing\. The first is row 10: .* Also, in 1 rows: image cannot"
    ):
        load(folder, sound_rows())


@pytest.mark.parametrize("content", [b"\xff\xfe" + HEADER.encode("utf-16-le"), b"", b"\0\0\0", b'"'])
def test_a_file_that_is_no_log_is_a_sentence(folder, content):
    (folder / "driving_log.csv").write_bytes(content)
    with pytest.raises(DriveError, match=r"UTF-16|no usable row"):
        source_of(folder.parents[1]).load("a")


def test_no_skipped_rows_are_sound():
    require_sound("a", [], 0, 0.02)
