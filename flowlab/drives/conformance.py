"""What every Source promises, as tests that the author of one can run.

    class TestMySource(SourceConformance):
        def source(self):
            return MySource(...)

pytest collects it by its name. Each test asks for a new source, so that nothing holds merely because it was remembered.
"""

import re
from abc import abstractmethod

import numpy as np

from flowlab.core.errors import FlowlabError
from flowlab.core.plugins import Source
from flowlab.core.types import NUM_WAYPOINTS, Drive
from flowlab.core.vocabulary import CHANNEL_RANGES


class SourceConformance:
    """Subclass it as `Test...` and give `source`. The source must hold at least one drive of at least two frames."""

    @abstractmethod
    def source(self) -> Source:
        """The source under test; called anew for each of the two sources that a test may compare."""

    def _first(self) -> tuple[Source, Drive]:
        source = self.source()
        return source, source.load(source.drive_ids()[0])

    def test_is_a_source(self) -> None:
        assert isinstance(self.source(), Source)

    def test_drive_ids_are_sorted_unique_and_the_same_twice(self) -> None:
        drive_ids = self.source().drive_ids()
        assert drive_ids
        assert drive_ids == sorted(set(drive_ids))
        assert drive_ids == self.source().drive_ids()

    def test_a_drive_carries_its_own_id_and_the_channels_of_its_source(self) -> None:
        source = self.source()
        for drive_id in source.drive_ids():
            drive = source.load(drive_id)
            assert drive.drive_id == drive_id
            assert drive.channels == source.channels

    def test_arrays_have_the_stated_shapes_and_types(self) -> None:
        source, drive = self._first()
        num = len(drive)
        assert num >= 2
        assert drive.frame_index.shape == (num,) and drive.frame_index.dtype == np.int64
        assert drive.time_us.shape == (num,) and drive.time_us.dtype == np.int64
        assert drive.speed_mps.shape == (num,) and drive.speed_mps.dtype == np.float32
        assert drive.action.shape == (num, len(source.channels)) and drive.action.dtype == np.float32

    def test_waypoints_are_there_exactly_if_the_source_says_so(self) -> None:
        source = self.source()
        for drive_id in source.drive_ids():
            drive = source.load(drive_id)
            assert (drive.waypoints is not None) == source.has_waypoints
            if drive.waypoints is not None:
                assert drive.waypoints.shape == (len(drive), NUM_WAYPOINTS, 2)
                assert drive.waypoints.dtype == np.float32

    def test_frames_are_in_strict_order_of_index_and_time(self) -> None:
        source = self.source()
        for drive_id in source.drive_ids():
            drive = source.load(drive_id)
            assert (np.diff(drive.frame_index) > 0).all()
            assert (np.diff(drive.time_us) > 0).all()

    def test_actions_of_known_channels_are_in_their_ranges(self) -> None:
        source = self.source()
        lows, highs = np.transpose([CHANNEL_RANGES.get(name, (-np.inf, np.inf)) for name in source.channels])
        for drive_id in source.drive_ids():
            action = source.load(drive_id).action
            assert (action >= lows).all() and (action <= highs).all()

    def test_a_drive_loads_the_same_twice(self) -> None:
        _, one = self._first()
        _, two = self._first()
        np.testing.assert_array_equal(one.frame_index, two.frame_index)
        np.testing.assert_array_equal(one.time_us, two.time_us)
        np.testing.assert_array_equal(one.speed_mps, two.speed_mps)
        np.testing.assert_array_equal(one.action, two.action)
        assert (one.driver, one.track, one.skipped) == (two.driver, two.track, two.skipped)

    def test_images_are_rgb_of_the_size_asked_for(self) -> None:
        source, drive = self._first()
        for height, width in ((16, 24), (40, 40)):
            images = source.images(drive, np.array([0, 1]), height, width)
            assert images.shape == (2, height, width, 3) and images.dtype == np.uint8

    def test_images_follow_the_rows_asked_for(self) -> None:
        source, drive = self._first()
        last = len(drive) - 1
        forth = source.images(drive, np.array([0, last]), 32, 32)
        back = source.images(drive, np.array([last, 0, last]), 32, 32)
        np.testing.assert_array_equal(back, forth[[1, 0, 1]])

    def test_images_are_the_same_from_a_new_source(self) -> None:
        (one, drive), two = self._first(), self.source()
        rows = np.arange(min(len(drive), 4))
        np.testing.assert_array_equal(one.images(drive, rows, 32, 32), two.images(drive, rows, 32, 32))

    def test_no_rows_give_no_images(self) -> None:
        source, drive = self._first()
        assert source.images(drive, np.array([], np.int64), 16, 24).shape == (0, 16, 24, 3)

    def test_digests_are_stable_and_tell_drives_apart(self) -> None:
        drive_ids = self.source().drive_ids()
        digests = [self.source().digest(drive_id) for drive_id in drive_ids]
        assert all(re.fullmatch("[0-9a-f]{16}", digest) for digest in digests)
        assert len(set(digests)) == len(drive_ids)
        assert digests == [self.source().digest(drive_id) for drive_id in drive_ids]

    def test_a_drive_that_is_not_there_is_a_sentence_and_no_traceback(self) -> None:
        source = self.source()
        for ask in (source.load, source.digest):
            try:
                ask("no-such-drive")
            except FlowlabError as error:
                assert "no-such-drive" in str(error)
            else:
                raise AssertionError(f"{ask.__name__} took a drive that is not there")
