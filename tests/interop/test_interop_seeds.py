"""Runs pair by the seed that somebody names, whatever it is called; none is invented, guessed or taken unasked."""

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
from tests.interop.foreign_files import MlflowStore, offline_records, write_offline
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


@pytest.mark.parametrize("name", ["seed", "random_seed", "cfg/seed", "split.seed", "trial"])
@pytest.mark.parametrize("kind", ["params", "tags"])
def test_runs_have_the_seed_that_is_named(runs: Path, tmp_path: Path, name: str, kind: str) -> None:
    done = brought(runs, store_of(tmp_path / "mlflow.db", kind, name).path, name)
    assert [(run.foreign.run_id[-1], run.recipe) for run in done.added] == [(str(run.seed), {}) for run in done.added]
    assert [run.seed for run in done.added] == [1, 2, 3, 3, 1, 2]
    assert done.notes == ["wide has the params of the control: nothing written down tells them apart"]


@pytest.mark.parametrize(("asked", "seeds"), [("seed", [1, 2, 3]), (None, [])])
def test_runs_pair_by_the_seed_that_is_named_and_without_one_not_at_all(
    ledger: Path, runs: Path, tmp_path: Path, asked: str | None, seeds: list[int]
) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "seed")
    store.execute("insert into params select 'width', '8', run_uuid from runs where name = 'wide'")
    brought(runs, store.path, asked)
    ingest(ledger, runs)
    assert sorted(pair["seed"] for pair in table(ledger, "pairs")) == seeds


@pytest.mark.parametrize("name", ["seed", "random_seed", "cfg/seed"])
@pytest.mark.parametrize("kind", ["params", "tags"])
def test_without_the_option_no_run_has_a_seed_whatever_looks_like_one(
    runs: Path, tmp_path: Path, name: str, kind: str
) -> None:
    done = brought(runs, store_of(tmp_path / "mlflow.db", kind, name).path)
    assert [run.recipe for run in done.added] == [{}] * 6
    assert len({run.seed for run in done.added}) == 6
    assert all(run.seed < 0 for run in done.added)
    assert [run.replicate for run in done.added] == [0] * 6
    assert done.notes[0] == (
        "no --seed-from says which param is the seed, so these runs pair with nothing and stand under a number below "
        f"0: control (3), wide (3). These look like seeds: {name}. If one is: --seed-from {name}, into another study"
    )


def test_where_nothing_looks_like_a_seed_the_note_says_so(runs: Path, tmp_path: Path) -> None:
    done = brought(runs, store_of(tmp_path / "mlflow.db", "params", "trial").path, None, ("trial",))
    assert all(run.seed < 0 for run in done.added)
    assert done.notes[0].endswith("control (3), wide (3). Nothing looks like one: write it down and name it")


def test_a_seed_that_is_not_there_is_one_sentence(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "split.seed")
    with pytest.raises(UnknownNameError, match=r"unknown param 'spilt.seed' in --seed-from: did you mean 'split.seed'"):
        brought(runs, store.path, "spilt.seed")


def test_a_run_without_a_whole_number_there_has_no_seed(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "random_seed")
    store.execute("update params set value = 'None' where run_uuid = 'wide3'")
    store.execute("delete from params where run_uuid = 'wide1'")
    done = brought(runs, store.path, "random_seed")
    assert [max(run.seed, -1) for run in done.added] == [1, 2, 3, -1, -1, 2]
    assert done.notes[0] == (
        "no whole number in random_seed, so these runs pair with nothing and stand under a number below 0: wide (2). "
        "Nothing else looks like a seed"
    )


def test_what_looks_most_like_the_seed_is_told_first(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "random_seed", "random_state")
    for name in ("seed", "data_seed"):
        store.execute(f"insert into params select '{name}', '0', run_uuid from runs")
    note = brought(runs, store.path).notes[0]
    assert note.endswith(
        "look like seeds: random_seed, random_state, seed, data_seed. If one is: --seed-from random_seed, into another "
        "study"
    )


def test_what_may_be_of_the_recipe_stays_in_it(runs: Path, tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    store.run("a" * 32, "baseline", {"loss": [(0, 1.0)]}, params={"data_seed": "7", "seed": "7"})
    assert [run.recipe for run in brought(runs, store.path).added] == [{"data_seed": "7"}]


def test_runs_of_one_seed_are_told(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db")
    store.execute("insert into params select 'seed', '0', run_uuid from runs")
    done = brought(runs, store.path, "seed")
    assert [run.replicate for run in done.added] == [0, 1, 2] * 2
    assert done.notes[-1] == (
        "runs of one lever, recipe and seed, of which the first to start counts alone: control@0 (3), wide@0 (3)"
    )


def test_another_seed_that_agrees_is_no_part_of_the_recipe_and_one_that_does_not_is(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "random_seed", "torch_seed")
    assert {str(run.recipe) for run in brought(runs, store.path, "random_seed").added} == {"{}"}
    store.execute("update params set value = '9' where key = 'torch_seed' and run_uuid = 'baseline3'")
    with pytest.raises(LedgerError, match=r"control's runs \(baseline\) differ in torch_seed: they are of several"):
        brought(runs, store.path, "random_seed")


@pytest.mark.parametrize("ignored", ["random_seed", "data_seed"])
def test_what_tells_runs_of_one_seed_apart_may_not_be_ignored(runs: Path, tmp_path: Path, ignored: str) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", ignored)
    store.execute("insert into params select 'seed', '5', run_uuid from runs")
    words = f"--ignore would throw {ignored} away, in which runs differ whose seed is 5: .*--seed-from {ignored}"
    with pytest.raises(LedgerError, match=words):
        brought(runs, store.path, "seed", (ignored,))
    assert not runs.exists()
    assert [run.seed for run in brought(runs, store.path, ignored, ("seed",)).added] == [1, 2, 3, 3, 1, 2]


def test_a_group_of_params_that_has_such_may_not_be_ignored_either(runs: Path, tmp_path: Path) -> None:
    history = [{"loss": 1.0}]
    configs = [{"seed": 5, "data": {"seed": number}} for number in (1, 2)]
    paths = [
        write_offline(tmp_path / f"r{i}.wandb", offline_records(f"r{i}", "baseline", config, history))
        for i, config in enumerate(configs)
    ]
    foreign = read_exports(paths, None, None, "seed")
    with pytest.raises(LedgerError, match=r"differ in data\.seed: .* leave them out: --ignore data\.seed$"):
        import_runs(foreign, runs, "test", "baseline", MetricMap.parse([]))
    with pytest.raises(LedgerError, match=r"--ignore would throw data\.seed away"):
        import_runs(foreign, runs, "test", "baseline", MetricMap.parse([]), ("data",))


def test_what_is_the_same_in_all_runs_of_one_seed_may_be_ignored(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "random_seed", "data_seed")
    with pytest.raises(LedgerError, match=r"control's runs \(baseline\) differ in data_seed: .*--ignore data_seed$"):
        brought(runs, store.path, "random_seed")
    done = brought(runs, store.path, "random_seed", ("data_seed",))
    assert [(run.seed, run.recipe) for run in done.added] == [(seed, {}) for seed in (1, 2, 3, 3, 1, 2)]


def test_ignoring_a_seed_makes_none(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "random_seed", "data_seed")
    words = "differ in data_seed: .* If data_seed is the seed: --seed-from data_seed.*--ignore data_seed$"
    with pytest.raises(LedgerError, match=words):
        brought(runs, store.path)
    done = brought(runs, store.path, None, ("random_seed", "data_seed"))
    assert len({run.seed for run in done.added if run.seed < 0}) == 6


def test_a_seed_that_is_named_later_is_refused_where_runs_stand_without(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "seed")
    seed = brought(runs, store.path).added[0].seed
    with pytest.raises(LedgerError, match=rf"says something else now \(under seed 1, and {seed} then\): .*--seed-from"):
        brought(runs, store.path, "seed")
    assert len(brought(runs, store.path).known) == 6


def test_a_run_whose_param_and_tag_differ_is_left_out(runs: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path / "mlflow.db", "params", "seed")
    store.execute("insert into tags select 'seed', value || '.0', run_uuid from params")
    store.execute("update tags set value = '9' where key = 'seed' and run_uuid = 'wide3'")
    done = brought(runs, store.path, "seed")
    assert [run.seed for run in done.added] == [1, 2, 3, 1, 2]
    assert done.notes[0] == (
        f"1 of 6 runs of mlflow.db left out: {store.path}: 'seed' of run 'wide3' is one number as a param and another "
        f"as a tag"
    )


def test_a_column_of_wandb_may_be_the_seed(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("run,_step,rng,config.lr,loss,random_seed\na,0,7,1,1.0,8\n")
    for seed_from, seed, keys in (
        ("rng", 7, ("loss",)),
        ("random_seed", 8, ("rng", "loss")),
        (None, -1, ("rng", "loss")),
    ):
        foreign = read_exports([path], None, None, seed_from)
        (run,) = import_runs(foreign, runs / str(seed), "test", "a", MetricMap.parse([]), ("random_seed",)).added
        assert (max(run.seed, -1), run.foreign.keys) == (seed, keys)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("run,_step,seed,loss\na,0,1,1\nb,0,1,1\nb,1,,1\nb,2,2,1\n", "line 5: seed is 2, and run 'b' has 1 before"),
        ("run,_step,seed,config.seed,loss\na,0,1,1.0,1\nb,0,1,3,1\n", "line 3: config.seed is 3, and run 'b' has 1"),
    ],
)
def test_a_run_whose_seed_changes_has_none_and_is_left_out(runs: Path, tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    foreign = read_exports([path], None, None, "seed")
    assert [run.name for run in foreign.runs] == ["a"]
    assert f"1 of 2 runs of a.csv left out: {path}, {told}" in foreign.notes[0]


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
