"""What every Readout promises, as tests that the author of one can run.

    class TestMyReadout(ReadoutConformance):
        def readout(self):
            return MyReadout()

pytest collects it by its name. The frames are two made-up drives, the draws random numbers.
"""

import re
from abc import abstractmethod
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.core.plugins import Readout
from flowlab.core.seeds import numpy_stream
from flowlab.evaluate.frames import ValidationFrames

NUM_FRAMES, NUM_DRAWS, HORIZON, HISTORY = 40, 5, 4, 3


class ReadoutConformance:
    """Subclass it as `Test...` and give `readout`; give `channels` too if the readout looks for other ones."""

    @abstractmethod
    def readout(self) -> Readout:
        """The readout under test; called anew for each of the two readouts that a test may compare."""

    def channels(self) -> tuple[str, ...]:
        """The names of the raw channels."""
        return ("first", "second")

    def _draws(self, num_draws: int = NUM_DRAWS) -> NDArray[np.float32]:
        shape = (NUM_FRAMES, num_draws, HORIZON, len(self.channels()))
        return numpy_stream(0, "conformance", "draws").uniform(-1, 1, shape).astype(np.float32)

    def _frames(self) -> ValidationFrames:
        """Two drives of 10 Hz, one after the other."""
        stream, num_channels = numpy_stream(0, "conformance", "frames"), len(self.channels())
        half = NUM_FRAMES // 2
        frame_index = np.arange(NUM_FRAMES)[:, None] % half + np.arange(HISTORY)
        return ValidationFrames(
            channels=self.channels(),
            truth=stream.uniform(-1, 1, (NUM_FRAMES, HORIZON, num_channels)).astype(np.float32),
            drive=np.repeat([0, 1], half),
            drive_ids=("one", "two"),
            frame_index=frame_index,
            time_us=frame_index * 100_000,
            history_action=stream.uniform(-1, 1, (NUM_FRAMES, HISTORY, num_channels)).astype(np.float32),
            speed_mps=stream.uniform(0, 20, (NUM_FRAMES, HISTORY)).astype(np.float32),
            waypoints=stream.uniform(0, 40, (NUM_FRAMES, 10, 2)).astype(np.float32),
            condition=torch.from_numpy(stream.standard_normal((NUM_FRAMES, 12, 8)).astype(np.float16)),
        )

    def test_is_a_readout_with_a_name_that_metric_rows_can_have(self) -> None:
        readout = self.readout()
        assert isinstance(readout, Readout)
        assert re.fullmatch(r"[A-Za-z0-9_-]+", readout.name)
        assert readout.name == self.readout().name

    def test_gives_one_finite_chunk_per_frame(self) -> None:
        for num_draws in (1, 2, NUM_DRAWS):
            chunk = self.readout()(self._draws(num_draws), self._frames())
            assert chunk.shape == (NUM_FRAMES, HORIZON, len(self.channels()))
            assert chunk.dtype == np.float32
            assert np.isfinite(chunk).all()

    def test_gives_the_same_twice_and_from_a_new_one(self) -> None:
        readout, draws, frames = self.readout(), self._draws(), self._frames()
        first = readout(draws, frames).copy()
        np.testing.assert_array_equal(readout(draws, frames), first)
        np.testing.assert_array_equal(self.readout()(draws, frames), first)

    def test_changes_nothing_that_it_is_given(self) -> None:
        draws, frames = self._draws(), self._frames()
        arrays = (draws, frames.truth, frames.history_action, frames.speed_mps, frames.frame_index, frames.time_us)
        before = [array.copy() for array in arrays]
        condition = frames.condition.clone()
        chunk = self.readout()(draws, frames)
        chunk += 1  # nor does the chunk share memory with the draws
        for array, old in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, old)
        assert torch.equal(frames.condition, condition)

    def test_the_order_of_frames_does_not_matter(self) -> None:
        draws, frames = self._draws(), self._frames()
        order = numpy_stream(0, "conformance", "order").permutation(NUM_FRAMES)
        shuffled = self.readout()(draws[order], frames.take(order))
        np.testing.assert_allclose(shuffled, self.readout()(draws, frames)[order], atol=1e-6)

    def test_the_truth_is_not_looked_at(self) -> None:
        draws, frames = self._draws(), self._frames()
        other = replace(frames, truth=-frames.truth)
        np.testing.assert_array_equal(self.readout()(draws, other), self.readout()(draws, frames))

    def test_no_frames_give_no_chunks(self) -> None:
        none = np.arange(0)
        chunk = self.readout()(self._draws()[none], self._frames().take(none))
        assert chunk.shape == (0, HORIZON, len(self.channels()))
