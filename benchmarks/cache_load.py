"""How long does it take until a cache's conditions are in memory, and to draw batches from them?

The same random conditions, 20,000 x 12 x 384 in fp16, are laid down three ways and read whole five ways; then batches
of random rows are taken from memory, through a DataLoader, and from the Zarr store. Files are in the page cache: this
is the cost of the reader, not of the disk. The plain way is torch.load of a .pt file, and a DataLoader over the tensor
in memory; the other ways are told below. In turns; one command, a minute or two.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import zarr
from torch.utils.data import DataLoader, Dataset, TensorDataset
from turns import Row, Times, Told, in_turns, options, turns_of

from flowlab.cache.cache import read_array
from flowlab.cache.layout import ArrayLayout
from flowlab.cache.writer import ArrayWriter, writing
from flowlab.core.digest import digest_bytes

SHAPE = (20_000, 12, 384)
QUICK_ROWS = 4_000
BATCH = 1024
ZARR_ROWS = 64  # random rows straight from the store are too slow for a whole batch
OTHERS = ("zarr-python, the same store", "zarr-python, default chunks + codec")
OLDER = "a cache of before, by BLAKE2b"


class ZarrRows(Dataset):
    """Rows of a Zarr array, one read each: what a DataLoader does that knows nothing of chunks."""

    def __init__(self, array: zarr.Array) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self.array[row]))


def main() -> None:
    asked = options(__doc__.partition("\n")[0]).parse_args()
    shape = (QUICK_ROWS, *SHAPE[1:]) if asked.quick else SHAPE
    rows = np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(np.float16)
    told = Told("cache_load", asked, "ms", 1000)
    with tempfile.TemporaryDirectory() as folder:
        told.row(loading(Path(folder), rows, turns_of(asked)))
        told.row(serving(Path(folder), rows, turns_of(asked)))
    told.end()


def loading(folder: Path, rows: np.ndarray, turns: int) -> Row:
    """The whole array into memory."""
    layout = ArrayLayout("train/condition/normal", rows.shape)
    with writing(folder / "plain") as files:
        writer = ArrayWriter(files, layout)
        writer.append(rows)
        digests = writer.finish()
    older = {key: digest_bytes((folder / "plain" / key).read_bytes()) for key in digests}
    plain = zarr.open_array(folder / "plain", path=layout.name, mode="r")
    default = zarr.create_array(store=str(folder / "default"), name="condition", data=rows)
    torch.save(torch.from_numpy(rows), folder / "condition.pt")
    ways: dict[str, Callable[[], object]] = {
        "flowlab": lambda: torch.from_numpy(read_array(folder / "plain", layout, digests)),
        "torch.load": lambda: torch.load(folder / "condition.pt", weights_only=True),
        OTHERS[0]: lambda: torch.from_numpy(np.asarray(plain[:])),
        OTHERS[1]: lambda: torch.from_numpy(np.asarray(default[:])),
        OLDER: lambda: torch.from_numpy(read_array(folder / "plain", layout, older)),
    }
    assert np.array_equal(read_array(folder / "plain", layout, digests), rows)
    taken = in_turns(ways, turns)
    size = f"{rows.nbytes / 1e6:.0f} MB"
    note = f"flowlab proves each chunk's digest, 2 threads; {beside(taken, [*OTHERS, OLDER])}"
    return Row("load a cache", size, taken["flowlab"], taken["torch.load"], note=note)


def serving(folder: Path, rows: np.ndarray, turns: int) -> Row:
    """Random rows as float32 on one thread, as a worker has them, in batches of 1,024."""
    torch.set_num_threads(1)
    resident = torch.from_numpy(rows)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    batches = order.split(BATCH)
    store = ZarrRows(zarr.open_array(folder / "plain", path="train/condition/normal", mode="r"))

    def indexed() -> None:
        for batch in batches:
            resident[batch].float()

    def selected() -> None:
        for batch in batches:
            resident.index_select(0, batch).float()

    def loaded(data: Dataset, picked: torch.Tensor) -> Callable[[], None]:
        def read() -> None:
            for batch in DataLoader(data, batch_size=BATCH, sampler=picked.tolist()):
                (batch if isinstance(batch, torch.Tensor) else batch[0]).float()

        return read

    taken = in_turns(
        {
            "flowlab": selected,
            "plain": loaded(TensorDataset(resident), order),
            "indexed": indexed,
            "from Zarr": loaded(store, order[:ZARR_ROWS]),
        },
        turns,
    )
    slower = len(rows) / ZARR_ROWS * taken["from Zarr"].wall / taken["flowlab"].wall
    note = f"{beside(taken, ['indexed'])}, DataLoader over the Zarr store {slower:,.0f}"
    return Row("random rows, one run", f"{len(rows):,} rows", taken["flowlab"], taken["plain"], note=note)


def beside(taken: dict[str, Times], ways: list[str] | tuple[str, ...]) -> str:
    """How many times longer other ways take than flowlab's."""
    return "times longer: " + ", ".join(f"{way} {taken[way].wall / taken['flowlab'].wall:.1f}" for way in ways)


if __name__ == "__main__":
    main()
