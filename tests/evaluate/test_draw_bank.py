"""Banks of draws on disk: whole, readable by Zarr and xarray alone, and scored as they are kept."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray
import zarr

from flowlab.core.errors import DrawBankError
from flowlab.evaluate.draw_bank import as_kept, bank_of, digest_bank, read_bank, to_raw, write_bank
from flowlab.policy.action_space import ActionSpace, Gaussianize, Identity
from flowlab.policy.space_json import space_to_json
from tests.evaluate.made_frames import made_frames

CHANNELS = ("gas", "brake", "steering")


def space() -> ActionSpace:
    """gas - brake, and steering, by three knots each: -1, 0, 1 physical at -2, 0, 2 of model space."""
    knots = torch.tensor([[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]])
    return ActionSpace(
        CHANNELS, ("longitudinal", "steering"), Gaussianize(knots, torch.tensor([-2.0, 0.0, 2.0]), "end")
    )


def small_bank(precision: str = "float16"):
    """Two frames of drive b, three draws of two slots, and a bank of them."""
    frames = made_frames(np.full((2, 2, 3), 0.25, np.float32), drive=[1, 1], now=[7, 9])
    model = np.linspace(-2, 2, 2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    told = {"run_id": "control-1", "action_space": space_to_json(space())}
    return bank_of(as_kept(model, precision), frames, told), frames


def test_a_bank_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    bank, frames = small_bank()
    write_bank(tmp_path / "draws.zarr", bank, frames)
    back = read_bank(tmp_path / "draws.zarr")
    assert back.model.dtype == np.float16
    np.testing.assert_array_equal(back.model, bank.model)
    assert back.told["run_id"] == "control-1"
    assert (back.drive_ids, back.drive.tolist(), back.now.tolist()) == (("a", "b"), [1, 1], [7, 9])


def test_equal_draws_are_equal_bytes(tmp_path: Path) -> None:
    bank, frames = small_bank()
    for name in ("one.zarr", "two.zarr"):
        write_bank(tmp_path / name, bank, frames)
    assert digest_bank(tmp_path / "one.zarr") == digest_bank(tmp_path / "two.zarr")


def test_zarr_alone_reads_what_the_draws_are_of(tmp_path: Path) -> None:
    bank, frames = small_bank()
    write_bank(tmp_path / "draws.zarr", bank, frames)
    group = zarr.open_group(tmp_path / "draws.zarr", mode="r")
    assert [group.attrs["drive_ids"][i] for i in group["drive"][:]] == ["b", "b"]
    assert group["frame_index"][:].tolist() == [7, 9]
    assert group["time_us"][:].tolist() == [700_000, 900_000]
    assert group["time_us"].attrs["units"] == "microseconds"
    assert group["truth"][0, 0].tolist() == [0.25, 0.25, 0.25]
    assert group["draws"].metadata.dimension_names == ("frame", "draw", "slot", "model_channel")


def test_xarray_alone_opens_it(tmp_path: Path) -> None:
    bank, frames = small_bank()
    write_bank(tmp_path / "draws.zarr", bank, frames)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xarray.open_zarr(tmp_path / "draws.zarr", consolidated=False)
        assert dict(data.sizes) == {
            "frame": 2, "draw": 3, "slot": 2, "model_channel": 2, "slot_of_truth": 2, "channel": 3,
        }  # fmt: skip
        mean = data.draws.astype("float32").mean("draw")
        np.testing.assert_allclose(mean, bank.model.astype(np.float32).mean(axis=1), rtol=1e-6)


def test_numpy_and_the_attributes_bring_draws_back_to_raw(tmp_path: Path) -> None:
    """What docs/draws.md tells a reader without flowlab to do."""
    bank, frames = small_bank()
    write_bank(tmp_path / "draws.zarr", bank, frames)
    group = zarr.open_group(tmp_path / "draws.zarr", mode="r")
    knots, model = group.attrs["action_space"]["transform"], group["draws"][:].astype(np.float32)
    longitudinal, steering = (np.interp(model[..., c], knots["model"], knots["physical"][c]) for c in range(2))
    raw = np.stack([longitudinal.clip(0), (-longitudinal).clip(0), steering], axis=-1)
    np.testing.assert_allclose(raw, to_raw(bank.model, space(), 2), atol=1e-6)


def test_a_policy_of_fewer_slots_holds_its_last_one() -> None:
    bank, _ = small_bank("float32")
    raw = to_raw(bank.model, ActionSpace(("x", "y"), ("x", "y"), Identity()), 4)
    np.testing.assert_array_equal(raw[:, :, :2], bank.model)
    np.testing.assert_array_equal(raw[:, :, 2:], np.repeat(bank.model[:, :, 1:], 2, axis=2))


def test_rows_are_found_by_drive_and_frame_in_any_order() -> None:
    bank, frames = small_bank()
    rows = bank.rows_of(frames.take(np.array([1, 0])))
    assert rows is not None and rows.tolist() == [1, 0]
    assert bank.rows_of(made_frames(frames.truth, drive=[0, 0], now=[7, 9])) is None
    np.testing.assert_array_equal(bank.take(rows).model, bank.model[::-1])


def test_what_float16_cannot_hold_is_infinite_and_not_a_number_of_another_size() -> None:
    assert as_kept(np.array([1e5, -1e5, 1.0], np.float32), "float16").tolist() == [np.inf, -np.inf, 1.0]


@pytest.mark.parametrize("make", ["array", "nothing", "torn"])
def test_what_is_no_bank_is_refused_in_one_sentence(tmp_path: Path, make: str) -> None:
    path = tmp_path / "draws.zarr"
    if make == "array":
        zarr.create_array(store=str(path), shape=(2, 2), dtype="f4")
    elif make == "torn":
        write_bank(path, *small_bank())
        (path / "draws" / "zarr.json").write_text("{")
    with pytest.raises(DrawBankError, match="Draw anew"):
        read_bank(path)
