import numpy as np

from flowlab.evaluate.baselines import baseline_chunks, repeat_last, train_median


def test_repeat_last_holds_the_action_of_now():
    history = np.array([[[0.1, -1.0], [0.2, -0.5]]], dtype=np.float32)
    assert repeat_last(history, 3).tolist() == np.float32([[[0.2, -0.5]] * 3]).tolist()


def test_train_median_is_taken_per_channel_over_all_slots():
    train = np.array([[[0, 5], [1, 5]], [[2, 6], [9, 7]], [[9, 8], [0, 6]]], dtype=np.float32)
    assert train_median(train, 4).shape == (4, 2, 2)
    assert train_median(train, 4)[3, 1].tolist() == [1.5, 6.0]


def test_both_baselines_come_under_their_readout_names():
    chunks = baseline_chunks(np.zeros((5, 6, 3), np.float32), np.zeros((9, 4, 3), np.float32))
    assert {name: chunk.shape for name, chunk in chunks.items()} == {
        "repeat-last": (5, 4, 3),
        "train-median": (5, 4, 3),
    }
