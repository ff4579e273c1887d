"""How long does it take until a cache's conditions are in memory, and to draw batches from them?

The same random conditions, 20,000 x 12 x 384 in fp16, are laid down three ways and read whole four ways; then batches
of random rows are taken from memory, through a DataLoader, and from the Zarr store. Files are in the page cache: this
is the cost of the reader, not of the disk. Prints two tables and writes benchmarks/results/cache_load.json.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import zarr
from torch.utils.data import DataLoader, Dataset, TensorDataset

from flowlab.cache.cache import read_array
from flowlab.cache.layout import ArrayLayout, ArrayWriter

SHAPE = (20_000, 12, 384)
BATCH = 1024
ZARR_ROWS = 64  # random rows straight from the store are too slow for a whole batch
REPEATS = 3


class ZarrRows(Dataset):
    """Rows of a Zarr array, one read each: what a DataLoader does that knows nothing of chunks."""

    def __init__(self, array: zarr.Array) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self.array[row]))


def main() -> None:
    rows = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32).astype(np.float16)
    with tempfile.TemporaryDirectory() as folder:
        load = load_table(Path(folder), rows)
        serve = serve_table(Path(folder), rows)
    megabytes = rows.nbytes / 1e6
    print(f"loading {SHAPE[0]:,} x {SHAPE[1]} x {SHAPE[2]} fp16 ({megabytes:.0f} MB), 2 reading threads")
    print(f"{'way':<36} {'seconds':>8} {'MB/s':>7} {'times flowlab':>14}")
    for way, seconds in load.items():
        print(f"{way:<36} {seconds:>8.3f} {megabytes / seconds:>7.0f} {seconds / load['flowlab']:>14.1f}")
    print("\nserving random rows as float32, one thread")
    print(f"{'way':<36} {'rows/s':>10} {'times slower':>14}")
    for way, speed in serve.items():
        print(f"{way:<36} {speed:>10,.0f} {serve['resident, index_select'] / speed:>14.1f}")
    path = Path(__file__).parent / "results" / "cache_load.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"shape": SHAPE, "load_s": load, "serve_rows_per_s": serve}, indent=2) + "\n")


def load_table(folder: Path, rows: np.ndarray) -> dict[str, float]:
    """Seconds until the whole array is in memory, the best of a few repeats, by way."""
    layout = ArrayLayout("train/condition/normal", SHAPE)
    writer = ArrayWriter(folder / "plain", layout)
    writer.append(rows)
    digests = writer.finish()
    plain = zarr.open_array(folder / "plain", path=layout.name, mode="r")
    default = zarr.create_array(store=str(folder / "default"), name="condition", data=rows)
    torch.save(torch.from_numpy(rows), folder / "condition.pt")
    ways: dict[str, Callable[[], object]] = {
        "flowlab": lambda: torch.from_numpy(read_array(folder / "plain", layout, digests)),
        "torch.load of a .pt": lambda: torch.load(folder / "condition.pt", weights_only=True),
        "zarr-python, the same store": lambda: torch.from_numpy(np.asarray(plain[:])),
        "zarr-python, default chunks + codec": lambda: torch.from_numpy(np.asarray(default[:])),
    }
    assert np.array_equal(read_array(folder / "plain", layout, digests), rows)
    return {way: best(read) for way, read in ways.items()}


def serve_table(folder: Path, rows: np.ndarray) -> dict[str, float]:
    """Random rows per second on one thread, as a worker has it, by way."""
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

    def loader(data: Dataset, picked: torch.Tensor) -> Callable[[], None]:
        def read() -> None:
            for batch in DataLoader(data, batch_size=BATCH, sampler=picked.tolist()):
                (batch if isinstance(batch, torch.Tensor) else batch[0]).float()

        return read

    return {
        "resident, index_select": len(order) / best(selected),
        "resident, indexed": len(order) / best(indexed),
        "DataLoader over the resident tensor": len(order) / best(loader(TensorDataset(resident), order)),
        "DataLoader over the Zarr store": ZARR_ROWS / best(loader(store, order[:ZARR_ROWS])),
    }


def best(work: Callable[[], object]) -> float:
    """The least seconds that `work` took."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


if __name__ == "__main__":
    main()
