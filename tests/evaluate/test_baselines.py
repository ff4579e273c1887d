import numpy as np

from flowlab.evaluate.baselines import baseline_chunks, repeat_last, train_median
from tests.evaluate.made_frames import made_frames


def test_repeat_last_holds_the_action_of_now():
    history = np.array([[[0.1, -1.0], [0.2, -0.5]]], dtype=np.float32)
    frames = made_frames(np.zeros((1, 3, 2), np.float32), ("x", "y"), history_action=history)
    assert repeat_last(frames).tolist() == np.float32([[[0.2, -0.5]] * 3]).tolist()


def test_train_median_is_taken_per_channel_over_all_slots():
    train = np.array([[[0, 5], [1, 5]], [[2, 6], [9, 7]], [[9, 8], [0, 6]]], dtype=np.float32)
    median = train_median(made_frames(np.zeros((4, 2, 2), np.float32), ("x", "y")), train)
    assert median.shape == (4, 2, 2)
    assert median[3, 1].tolist() == [1.5, 6.0]


def test_both_baselines_come_under_their_readout_names():
    chunks = baseline_chunks(made_frames(np.zeros((5, 4, 3), np.float32)), np.zeros((9, 4, 3), np.float32))
    assert {name: chunk.shape for name, chunk in chunks.items()} == {
        "repeat-last": (5, 4, 3),
        "train-median": (5, 4, 3),
    }
