import av
import numpy as np
import pytest

from flowlab.drives import video
from flowlab.drives.video import UndecodableFrameError, UnreadableVideoError, VideoReader, read_index
from tests.drives.lerobot_folders import CODEC, frame_of, write_video

EVERY_12 = "keyint=12:min-keyint=12:scenecut=0"
STREAMS = {
    "as it comes": (CODEC, {"g": "12"}),
    "open groups, x264": ("libx264", {"x264-params": f"{EVERY_12}:open-gop=1:bframes=3:b-adapt=0"}),
    "open groups, x265": ("libx265", {"x265-params": f"{EVERY_12}:bframes=4:log-level=none"}),
    "intra refresh": ("libx264", {"x264-params": f"{EVERY_12}:intra-refresh=1:bframes=0"}),
}


def moving(num: int) -> list[np.ndarray]:
    """A window that slides over noise: each frame is predicted from others, and no two are alike."""
    noise = np.random.default_rng(0).integers(0, 255, (24, 24 + num, 3), np.uint8).repeat(2, 0).repeat(2, 1)
    return [np.ascontiguousarray(noise[:, 2 * first : 2 * first + 48]) for first in range(num)]


def rgb(frame: av.VideoFrame) -> np.ndarray:
    return frame.to_ndarray(format="rgb24")


def by_av(path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [rgb(frame) for frame in container.decode(video=0)]


def make(folder, num: int = 40, codec: str = CODEC, options: dict[str, str] | None = None):
    path = folder / "video.mp4"
    write_video(path, moving(num), 30, codec, options)
    return path, read_index(path, folder / "memo.json")


def count_seeks(monkeypatch) -> list[int]:
    seeks, land = [], VideoReader._land
    monkeypatch.setattr(VideoReader, "_land", lambda self, key, place: seeks.append(place) or land(self, key, place))
    return seeks


@pytest.mark.parametrize("stream", STREAMS)
def test_frames_in_any_order_are_those_of_reading_in_order(tmp_path, stream):
    codec, options = STREAMS[stream]
    if codec not in av.codec.codecs_available:
        pytest.skip(f"this PyAV cannot write {codec}")
    path, index = make(tmp_path, 60, codec, options)
    expected = by_av(path)
    reader = VideoReader(path, index)
    order = np.random.default_rng(1).permutation(60).tolist()
    for place in [*order, *range(59, -1, -3)]:
        ((got, frame),) = reader.read([place])
        assert got == place
        np.testing.assert_array_equal(rgb(frame), expected[place])


def test_frames_in_order_are_decoded_without_a_seek(tmp_path, monkeypatch):
    path, index = make(tmp_path, options={"g": "2"})
    seeks = count_seeks(monkeypatch)
    reader = VideoReader(path, index)
    got = [place for part in (range(10), range(10, 25), range(25, 40)) for place, _ in reader.read(list(part))]
    assert got == list(range(40))
    assert seeks == []


def test_frames_that_are_passed_over_are_no_reason_to_seek(tmp_path, monkeypatch):
    path, index = make(tmp_path, options={"g": "2"})
    seeks = count_seeks(monkeypatch)
    assert [place for place, _ in VideoReader(path, index).read(list(range(0, 40, 3)))] == list(range(0, 40, 3))
    assert seeks == []


def test_a_jump_ahead_is_one_seek(tmp_path, monkeypatch):
    path, index = make(tmp_path, 80, options={"g": "8"})
    seeks = count_seeks(monkeypatch)
    places = [0, 1, 70, 71, 72]
    assert [place for place, _ in VideoReader(path, index).read(places)] == places
    assert seeks == [70]


def test_an_index_has_every_frame_at_its_time(tmp_path):
    _, index = make(tmp_path, options={"g": "8", "bf": "2"})
    np.testing.assert_allclose(index.seconds, np.arange(40) / 30, atol=1e-9)
    assert index.keyframes[0] == 0
    assert index.is_shown.all()


def test_an_index_is_read_once_until_the_file_changes(tmp_path, monkeypatch):
    path, index = make(tmp_path)
    monkeypatch.setattr(video, "_read_packets", lambda path: pytest.fail("the packets are read again"))
    again = read_index(path, tmp_path / "memo.json")
    for name in video.ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(index, name))
    monkeypatch.undo()
    write_video(path, moving(12), 30)
    assert len(read_index(path, tmp_path / "memo.json").shown) == 12


def test_the_digest_of_a_stretch_is_that_of_what_it_is_decoded_from(tmp_path):
    path, index = make(tmp_path, options={"g": "8", "bf": "0"})
    before = [index.digest(first, 8) for first in (0, 8, 16)]
    assert len(set(before)) == 3
    write_video(
        path, [*moving(40)[:16], *[frame_of(1, k, (48, 48)) for k in range(24)]], 30, options={"g": "8", "bf": "0"}
    )
    after = [read_index(path, tmp_path / "memo.json").digest(first, 8) for first in (0, 8, 16)]
    assert (after[0] == before[0], after[2] == before[2]) == (True, False)


def spoil(path, place: int) -> None:
    """Overwrite the middle of the data of the frame at `place`."""
    with av.open(str(path)) as container:
        packets = sorted((packet.pts, packet.pos, packet.size) for packet in container.demux(video=0) if packet.size)
    _, pos, size = packets[place]
    content = bytearray(path.read_bytes())
    content[pos + size // 3 : pos + size // 3 + 40] = bytes(range(100, 140))
    path.write_bytes(content)


def test_a_frame_that_cannot_be_decoded_is_named_and_others_are_not(tmp_path):
    path, _ = make(tmp_path, options={"g": "8", "bf": "0"})
    expected = by_av(path)
    spoil(path, 16)
    reader = VideoReader(path, read_index(path, tmp_path / "memo.json"))
    with pytest.raises(UndecodableFrameError) as caught:
        list(reader.read(list(range(10, 30))))
    assert caught.value.place == 16
    ((_, frame),) = reader.read([15])
    np.testing.assert_array_equal(rgb(frame), expected[15])
    ((_, frame),) = reader.read([24])
    np.testing.assert_array_equal(rgb(frame), expected[24])


def test_a_video_that_was_cut_off_is_read_up_to_there(tmp_path):
    path = tmp_path / "video.mp4"
    with av.open(str(path), "w", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        stream = container.add_stream(CODEC, rate=30, options={"g": "4"})
        stream.height = stream.width = 48
        stream.pix_fmt = "yuv420p"
        for frame in moving(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    index = read_index(path, tmp_path / "memo.json")
    assert 4 <= len(index.shown) < 40
    reader = VideoReader(path, index)
    assert [place for place, _ in reader.read([0, 1, 2, 3])] == [0, 1, 2, 3]


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\0" * 4096])
def test_what_is_no_video_says_so(tmp_path, content):
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    with pytest.raises(UnreadableVideoError):
        read_index(path, tmp_path / "memo.json")
