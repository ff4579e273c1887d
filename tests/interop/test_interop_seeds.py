"""Runs pair by the seed that somebody wrote down, whatever it is called; a seed is never invented."""

from pathlib import Path
from typing import Any

import pytest

from flowlab.core.errors import LedgerError, UnknownNameError
from flowlab.interop.cells import whole_number
from flowlab.interop.import_runs import Imported, import_runs
from flowlab.interop.metric_map import MetricMap
from flowlab.interop.mlflow_store import read_store
from flowlab.interop.seeds import is_seed
from flowlab.interop.wandb_export import read_exports
from flowlab.ledger.ingest import ingest
from tests.interop.foreign_files import MlflowStore
from tests.ledger.ledger_files import table

SEEDS = (("baseline", (1, 2, 3)), ("wide", (3, 1, 2)))


def store_of(path: Path, kind: str = "params", *names: str) -> MlflowStore:
    """Three runs of the control and of a lever, at seeds in another order; each run's id ends in its seed."""
    store = MlflowStore(path)
    for lever, seeds in SEEDS:
        for seed in seeds:
            settings: Any = {kind: {name: str(seed) for name in names}}
            store.run(f"{lever}{seed}", lever, {"loss": [(0, 1.0)]}, **settings)
    return store


def brought(runs: Path, path: Path, seed_from: str | None = None, ignore: tuple[str, ...] = ()) -> Imported:
    return import_runs(read_store(path, None, None, seed_from), runs, "test", "baseline", MetricMap.parse([]), ignore)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("seed", True),
        ("Seed", True),
        ("random_seed", True),
        ("rng-seed", True),
        ("cfg/seed", True),
        ("seed_everything", True),
        ("training.seed", True),
        ("trainer.globalSeed", True),
        ("RANDOM_SEED", True),
        ("random_state", True),
        ("data_seed", False),
        ("split.seed", False),
        ("env/seed", False),
        ("seed_words", False),
        ("seeds", False),
        ("random", False),
        ("PYTHONHASHSEED", False),
    ],
)
def test_which_name_is_that_of_a_seed(name: str, found: bool) -> None:
    assert is_seed(name) == found


@pytest.mark.parametrize("name", ["random_seed", "cfg/seed", "seed_everything", "training.seed"])
@pytest.mark.parametrize("kind", ["params", "tags"])
def test_a_seed_may_have_another_name(runs: Path, tmp_path: Path, name: str, kind: str) -> None:
    done = brought(runs, store_of(tmp_path / "mlflow.db", kind, name).path)
    assert [(run.foreign.run_id[-1], run.recipe) for run in done.added] == [(str(run.seed), {}) for run in done.added]
    assert [run.seed for run in done.added] == [1, 2, 3, 3, 1, 2]
    assert done.notes[0] == f"taken as the seed, by which runs pair: {name} (another one: --seed-from NAME)"


def test_any_param_may_be_the_seed_if_somebody_says_so(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "split.seed")
    assert [run.seed for run in brought(runs, store.path, "split.seed").added] == [1, 2, 3, 3, 1, 2]
    with pytest.raises(UnknownNameError, match=r"unknown param 'spilt.seed' in --seed-from: did you mean 'split.seed'"):
        brought(runs, store.path, "spilt.seed")


def test_without_a_seed_nothing_pairs(ledger: Path, runs: Path, tmp_path: Path) -> None:
    done = brought(runs, store_of(tmp_path / "mlflow.db").path)
    assert len({run.seed for run in done.added}) == 6
    assert all(run.seed < 0 for run in done.added)
    assert done.notes[0] == (
        "runs without a seed that is a whole number, which pair with nothing and stand under a number below 0: "
        "control (3), wide (3). If something says what it was: --seed-from NAME, or add a column seed"
    )
    ingest(ledger, runs)
    assert table(ledger, "pairs") == []


def test_what_sounds_like_a_seed_is_named(runs: Path, tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    store.run("a" * 32, "baseline", {"loss": [(0, 1.0)]}, params={"data_seed": "7"})
    done = brought(runs, store.path)
    assert (done.added[0].recipe, done.added[0].seed < 0) == ({"data_seed": "7"}, True)
    assert done.notes[0].endswith("control (1). If something says what it was: --seed-from data_seed")


def test_the_seed_that_varies_counts_beside_one_that_does_not(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "random_seed")
    for lever, seeds in SEEDS:
        for seed in seeds:
            store.execute(f"insert into params values ('seed', '0', '{lever}{seed}')")
    assert [run.seed for run in brought(runs, store.path).added] == [1, 2, 3, 3, 1, 2]


def test_seeds_that_differ_in_a_run_are_asked_for(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "random_seed", "torch_seed")
    store.execute("update params set value = '9' where key = 'torch_seed' and run_uuid = 'wide3'")
    with pytest.raises(LedgerError, match="run wide has several params that may be its seed, and they differ"):
        brought(runs, store.path)
    assert not runs.exists()
    store.execute("update params set value = '4' where key = 'torch_seed'")
    assert [run.seed for run in brought(runs, store.path).added] == [1, 2, 3, 3, 1, 2]


def test_a_seed_may_not_be_ignored(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "random_seed", "data_seed")
    with pytest.raises(LedgerError, match=r"--ignore random_seed would throw the seeds away.*--seed-from random_seed"):
        brought(runs, store.path, None, ("random_seed",))
    with pytest.raises(LedgerError, match=r"control's runs \(baseline\) differ in data_seed: .*--ignore data_seed$"):
        brought(runs, store.path)
    assert not runs.exists()
    done = brought(runs, store.path, None, ("data_seed",))  # the same in all runs of one random_seed
    assert [run.seed for run in done.added] == [1, 2, 3, 3, 1, 2]


def test_what_tells_runs_of_one_seed_apart_may_not_be_ignored(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "data_seed")
    store.execute("insert into params select 'seed', '5', run_uuid from runs")
    words = "--ignore data_seed would throw the seeds away.*--seed-from data_seed or --seed-from seed"
    with pytest.raises(LedgerError, match=words):
        brought(runs, store.path, None, ("data_seed",))
    assert {run.seed for run in brought(runs, store.path, "seed", ("data_seed",)).added} == {5}


def test_a_seed_that_is_one_for_all_may_be_ignored(runs: Path, tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    store.run("a" * 32, "baseline", {"loss": [(0, 1.0)]}, params={"data_seed": "7"})
    assert [run.recipe for run in brought(runs, store.path, None, ("data_seed",)).added] == [{}]


def test_a_column_of_wandb_may_be_the_seed(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("run,_step,rng,config.lr,loss,random_seed\na,0,7,1,1.0,8\n")
    for seed_from, seed, keys in (("rng", 7, ("loss",)), (None, 8, ("rng", "loss"))):
        foreign = read_exports([path], None, None, seed_from)
        (run,) = import_runs(foreign, runs / str(seed), "test", "a", MetricMap.parse([])).added
        assert (run.seed, run.foreign.keys) == (seed, keys)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("3", 3),
        ("3.0", 3),
        (3.0, 3),
        (" 3 ", 3),
        ("-3", -3),
        ("9007199254740993.0", 9007199254740993),
        (2.0**53, 2**53),
        (2.0**53 + 2, None),
        ("9223372036854775808", None),
        ("1e999999999", None),
        ("1" * 5000, None),
        ("1_0", None),
        ("nan", None),
        (float("inf"), None),
        (True, None),
        (None, None),
        (b"3", None),
        ([3], None),
    ],
)
def test_a_whole_number_is_exact(value: Any, number: int | None) -> None:
    assert whole_number(value) == number
