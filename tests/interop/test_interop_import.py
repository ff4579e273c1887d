"""Runs of MLflow and of W&B become runs of a study: once, whole, and with every number where it belongs."""

import json
from pathlib import Path

import pytest

from flowlab.core.digest import digest_json
from flowlab.core.errors import FlowlabError, LedgerError, UnknownNameError
from flowlab.interop.import_runs import Imported, import_runs
from flowlab.interop.metric_map import MetricMap, MetricName
from flowlab.interop.mlflow_store import read_store
from flowlab.interop.wandb_export import read_exports
from flowlab.ledger.ingest import ingest
from tests.interop.foreign_files import HISTORY, KEY, PLOT, MlflowStore, pilot
from tests.ledger.ledger_files import table
from tests.verdict.campaign import Campaign, panel_rule

STEERING = ("--map", f"{KEY}=l1:steering:spike_frame:meank")


def from_mlflow(
    path: Path,
    runs: Path,
    *maps: str,
    control: str = "baseline",
    experiment: str | None = None,
    lever_from: str | None = None,
    seed_from: str | None = None,
    ignore: tuple[str, ...] = (),
) -> Imported:
    foreign = read_store(path, experiment, lever_from, seed_from)
    return import_runs(foreign, runs, "test", control, MetricMap.parse(maps), ignore)


def from_wandb(
    runs: Path,
    *paths: Path,
    control: str = "baseline",
    project: str | None = None,
    lever_from: str | None = None,
    seed_from: str | None = None,
) -> Imported:
    return import_runs(read_exports(paths, project, lever_from, seed_from), runs, "test", control, MetricMap.parse([]))


def by_lever(ledger: Path, runs: Path, name: str = "runs") -> dict[tuple[str, int], dict]:
    assert ingest(ledger, runs).problems == []
    return {(row["lever"], row["seed"]): row for row in table(ledger, name)}


def test_an_mlflow_store_becomes_runs_that_pair(ledger: Path, runs: Path, tmp_path: Path) -> None:
    pilot(tmp_path / "mlflow.db")
    done = from_mlflow(tmp_path / "mlflow.db", runs, STEERING[1], seed_from="seed")
    assert (len(done.added), done.known, done.notes) == (3, [], [])
    found = by_lever(ledger, runs)
    assert set(found) == {("control", 1001), ("control", 1002), ("delta-off", 1001)}
    lever, control = found["delta-off", 1001], found["control", 1001]
    assert lever["run_id"].startswith("imported-delta-off-")
    assert lever["origin"] == f"mlflow:mlflow.db#{'c' * 32}"
    assert lever["control_digest"] == control["control_digest"] == control["recipe_digest"] != lever["recipe_digest"]
    assert (lever["changed_keys"], lever["cache_id"], lever["study"]) == (["delta"], "imported", "test")
    assert json.loads(lever["evaluation_json"])["imported"] == "mlflow"
    assert lever["evaluation_id"] == control["evaluation_id"]
    (pair,) = [row for row in table(ledger, "pairs") if row["metric"] == "l1"]
    assert pair["delta"] == pytest.approx(-0.03)
    assert (pair["channel"], pair["slice"], pair["readout"]) == ("steering", "spike_frame", "meank")
    rows = [row for row in table(ledger, "metrics") if row["run_id"] == lever["run_id"] and row["metric"] == "loss"]
    assert sorted((row["step"], row["value"], row["slice"]) for row in rows) == [
        (-1, 0.25, "overall"),
        (0, 1.0, "overall"),
        (10, 0.25, "overall"),
    ]
    (event,) = [e for e in table(ledger, "events") if e["what"] == "imported" and e["run_id"] == lever["run_id"]]
    assert event["detail"].startswith(f"mlflow run {'c' * 32}, 'Delta Off'; FINISHED; started 2023-11-14T22:13:2")


def test_importing_again_adds_nothing(ledger: Path, runs: Path, tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    from_mlflow(store.path, runs)
    before = {path: path.read_bytes() for path in runs.rglob("*.jsonl")}
    again = from_mlflow(store.path.rename(tmp_path / "moved.db"), runs)
    assert (again.added, len(again.known)) == ([], 3)
    assert {path: path.read_bytes() for path in runs.rglob("*.jsonl")} == before
    assert len(list(runs.iterdir())) == 3


def test_a_store_that_grew_brings_what_is_new(ledger: Path, runs: Path, tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.run("d" * 32, "late", {KEY: [(0, 0.5)]}, status="RUNNING")
    first = from_mlflow(store.path, runs)
    assert "runs that have not ended, left out (import again when they have): late" in first.notes
    store.execute("update runs set status = 'FINISHED' where name = 'late'")
    second = from_mlflow(store.path, runs)
    assert ([run.lever for run in second.added], len(second.known)) == (["late"], 3)


def test_other_options_the_second_time_are_refused(runs: Path, tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    from_mlflow(store.path, runs)
    before = sorted(runs.rglob("*"))
    with pytest.raises(LedgerError, match="was imported before, and says something else now"):
        from_mlflow(store.path, runs, STEERING[1])
    assert sorted(runs.rglob("*")) == before


def test_what_is_not_finite_is_left_out_and_counted(ledger: Path, runs: Path, tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    nan, infinity = float("nan"), float("inf")
    values = {
        "loss": [(0, 1.0), (1, nan), (2, infinity), (3, 0.5)],
        "norm": [(0, 1.0), (1, -infinity)],
        "l": [(-3, 1.0)],
    }
    store.run("a" * 32, "baseline", values)
    done = from_mlflow(store.path, runs)
    assert done.notes[-3:] == [
        "values at a step below 0, left out: l (1)",
        "values that are NaN or infinite, left out: loss (2), norm (1)",
        "values that would be final, where the last one is NaN or infinite, left out: norm (1)",
    ]
    by_lever(ledger, runs)
    found = sorted((row["metric"], row["step"], row["value"]) for row in table(ledger, "metrics"))
    assert found == [("loss", -1, 0.5), ("loss", 0, 1.0), ("loss", 3, 0.5), ("norm", 0, 1.0)]


def test_the_last_of_several_values_at_one_step_counts(ledger: Path, runs: Path, tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    store.run("a" * 32, "baseline", {"loss": [(0, 1.0), (0, 0.9), (0, 0.95)]})
    done = from_mlflow(store.path, runs)
    assert "values that another one at the same step came after, left out: loss (2)" in done.notes
    by_lever(ledger, runs)
    assert {(row["step"], row["value"]) for row in table(ledger, "metrics")} == {(0, 0.95), (-1, 0.95)}


def test_statuses_seeds_and_replicates(ledger: Path, runs: Path, tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    store.run("a" * 32, "baseline", {"loss": [(0, 1.0)]}, tags={"seed": "7"})
    store.run("b" * 32, "baseline", {"loss": [(0, 2.0)]}, params={"seed": "7"})
    store.run("c" * 32, "wide", {"loss": [(0, 1.0), (5, 2.0)]}, status="FAILED")
    store.run("d" * 32, "wide", {"loss": [(0, 1.0)]}, status="KILLED")
    store.run("e" * 32, "parent")
    store.run("f" * 32, "gone", {"loss": [(0, 1.0)]}, stage="deleted")
    done = from_mlflow(store.path, runs, seed_from="seed")
    assert done.notes[:3] + done.notes[4:5] == [
        "runs that were deleted in MLflow, left out: 1",
        "no whole number in seed, so these runs pair with nothing and stand under a number below 0: parent (1), "
        "wide (2). Nothing else looks like a seed",
        "runs that have no metrics, left out: parent",
        "runs of one lever, recipe and seed, of which the first to start counts alone: control@7 (2)",
    ]
    ingest(ledger, runs)
    named = sorted((row["lever"], max(row["seed"], -1), row["replicate"]) for row in table(ledger, "runs"))
    assert named == [("control", 7, 0), ("control", 7, 1), ("wide", -1, 0), ("wide", -1, 0)]
    states = {(row["lever"], row["status"], row["reason"]) for row in table(ledger, "run_status")}
    assert ("wide", "crashed", "FAILED, as mlflow has it") in states
    assert ("wide", "crashed", "KILLED, as mlflow has it") in states
    assert {row["lever"] for row in table(ledger, "final_metrics")} == {"control"}


def test_a_param_or_a_tag_names_the_lever(ledger: Path, runs: Path, tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    store.run("a" * 32, "nimble-fox-1", {"loss": [(0, 1.0)]}, params={"variant": "None"})
    store.run("b" * 32, "odd-cat-2", {"loss": [(0, 1.0)]}, params={"variant": "Depth 8"})
    store.run("c" * 32, "wry-owl-3", {"loss": [(0, 1.0)]}, tags={"other": "x"})
    done = from_mlflow(store.path, runs, lever_from="variant", control="None")
    assert "runs that lack what --lever-from names, left out: wry-owl-3" in done.notes
    assert {lever for lever, _ in by_lever(ledger, runs)} == {"control", "depth-8"}
    with pytest.raises(UnknownNameError, match="unknown param or tag 'varian' in --lever-from: did you mean 'variant'"):
        from_mlflow(store.path, runs, lever_from="varian")


def test_the_control_must_be_one_recipe(runs: Path, tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    for number in (1, 2):
        store.run(str(number) * 32, "baseline", {"loss": [(0, 1.0)]}, params={"out": f"run{number}", "lr": "0.1"})
    with pytest.raises(LedgerError, match=r"differ in out: they are of several recipes.*--ignore out"):
        from_mlflow(store.path, runs)
    with pytest.raises(UnknownNameError, match="unknown param 'outt' in --ignore: did you mean 'out'"):
        from_mlflow(store.path, runs, ignore=("outt",))
    done = from_mlflow(store.path, runs, ignore=("out",))
    assert [run.recipe for run in done.added] == [{"lr": "0.1"}] * 2


def test_a_lever_of_several_recipes_and_one_like_the_control_are_named(runs: Path, tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    for run_id, name, rate in (("1", "baseline", "1"), ("2", "same", "1"), ("3", "two", "2"), ("4", "two", "3")):
        store.run(run_id * 32, name, {"loss": [(0, 1.0)]}, params={"lr": rate, "seed": run_id})
    notes = from_mlflow(store.path, runs, seed_from="seed").notes
    assert notes == [
        "same has the params of the control: nothing written down tells them apart",
        "two has 2 recipes, which count as 2 levers: they differ in lr",
    ]


@pytest.mark.parametrize(
    ("statement", "experiment", "control", "words"),
    [
        (
            "drop table metrics",
            None,
            "baseline",
            "cannot be read as an MLflow tracking store in SQLite: no such table: met",
        ),
        ("select 1", "pilott", "baseline", "unknown experiment 'pilott' in .*: did you mean 'pilot'"),
        ("select 1", None, "basline", "unknown control 'basline' in --control: did you mean 'baseline'"),
        (
            "update runs set experiment_id = 0 where name <> 'baseline'",
            None,
            "baseline",
            "runs of 2 experiments: Default, p",
        ),
        ("update runs set lifecycle_stage = 'deleted'", None, "baseline", "holds no runs"),
        ("update runs set name = 'Control' where name <> 'baseline'", None, "baseline", "a run is named 'Control'"),
    ],
)
def test_what_is_wrong_with_a_store_is_one_sentence(
    runs: Path, tmp_path: Path, statement: str, experiment: str | None, control: str, words: str
) -> None:
    store = pilot(tmp_path / "mlflow.db")
    store.execute(statement)
    with pytest.raises(FlowlabError, match=words) as caught:
        from_mlflow(store.path, runs, experiment=experiment, control=control)
    assert "\n" not in str(caught.value)
    assert not runs.exists()


@pytest.mark.parametrize("content", [b"not a database, but long enough to look at " * 40, b"", None])
def test_what_is_no_store_is_one_sentence(runs: Path, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mlflow.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(LedgerError, match="tracking store"):
        from_mlflow(path, runs)
    assert not runs.exists()


def test_a_store_that_was_cut_is_one_sentence_and_nothing_is_imported(runs: Path, tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    store.run("a" * 32, "baseline", {"loss": [(step, 1.0) for step in range(5000)]})
    content = store.path.read_bytes()
    torn = tmp_path / "torn.db"
    torn.write_bytes(content[: len(content) // 3])
    with pytest.raises(LedgerError, match=r"torn\.db cannot be read as an MLflow tracking store"):
        from_mlflow(torn, runs)
    assert not runs.exists() or list(runs.iterdir()) == []


def test_maps_are_checked(runs: Path, tmp_path: Path) -> None:
    store = pilot(tmp_path / "mlflow.db")
    for text in ("loss", "loss=l1", "=l1:a:b:c", "loss=l1:a:b", "loss=:a:b:c", "loss=l1:a::c", "loss=l1:a:drive::c"):
        with pytest.raises(LedgerError, match="expected KEY=metric:channel:slice:readout"):
            MetricMap.parse([text])
    with pytest.raises(LedgerError, match="names 'a' twice"):
        MetricMap.parse(["a=l1::overall:", "a=l2::overall:"])
    with pytest.raises(UnknownNameError, match="unknown metric 'los' in --map: did you mean 'loss'"):
        from_mlflow(store.path, runs, "los=l1::overall:")
    with pytest.raises(LedgerError, match="'loss' and 'val/steering_l1' would both become"):
        from_mlflow(store.path, runs, f"{KEY}=loss::overall:")
    assert not runs.exists()


def test_a_slice_may_have_a_colon_and_final_keeps_the_end_alone(ledger: Path, runs: Path, tmp_path: Path) -> None:
    parsed = MetricMap.parse(["a=b=l1:steering:slot:1:meank:final"])
    assert (parsed.name("a=b"), parsed.is_final("a=b")) == (MetricName("l1", "steering", "slot:1", "meank"), True)
    store = pilot(tmp_path / "mlflow.db")
    from_mlflow(store.path, runs, f"{STEERING[1]}:final")
    by_lever(ledger, runs)
    assert {row["step"] for row in table(ledger, "metrics") if row["metric"] == "l1"} == {-1}


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("drive:d1", ("overall", "d1")),
        ("overall:drive:d1", ("overall", "d1")),
        ("spike_frame:drive:d:2", ("spike_frame", "d:2")),
        ("slot:1", ("slot:1", "")),
    ],
)
def test_a_slice_may_name_a_drive(where: str, found: tuple[str, str]) -> None:
    name = MetricMap.parse([f"a=l1:steering:{where}:meank"]).name("a")
    assert name == MetricName("l1", "steering", found[0], "meank", found[1])


def test_the_drive_of_a_map_is_a_column_of_the_row(ledger: Path, runs: Path, tmp_path: Path) -> None:
    from_mlflow(pilot(tmp_path / "mlflow.db").path, runs, f"{KEY}=l1:steering:spike_frame:drive:d1:meank:final")
    by_lever(ledger, runs)
    rows = [row for row in table(ledger, "metrics") if row["metric"] == "l1"]
    assert {(row["slice"], row["drive"], row["readout"]) for row in rows} == {("spike_frame", "d1", "meank")}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_history_of_wandb_becomes_runs(ledger: Path, runs: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"pilot.{kind}"
    if kind == "csv":
        path.write_text(HISTORY)
    else:
        _parquet(path)
    done = from_wandb(runs, path, seed_from="seed")
    assert "values that are no numbers, left out: note (1)" in done.notes
    found = by_lever(ledger, runs)
    assert set(found) == {("control", 1001), ("delta-off", 1001)}
    assert found["delta-off", 1001]["origin"] == f"wandb:pilot.{kind}#r2"
    rows = [row for row in table(ledger, "metrics") if row["run_id"] == found["control", 1001]["run_id"]]
    assert sorted((row["metric"], row["step"], row["value"]) for row in rows) == [
        ("loss", -1, 0.25), ("loss", 0, 1.0), ("loss", 1, 0.5), ("loss", 2, 0.25),
        (KEY, -1, 0.4), (KEY, 0, 0.5), (KEY, 2, 0.4),
    ]  # fmt: skip
    assert "values that are NaN or infinite, left out: loss (2)" in done.notes
    (pair,) = table(ledger, "pairs")  # the lever's last loss is infinite
    assert (pair["metric"], pair["delta"]) == (KEY, pytest.approx(-0.03))


def _parquet(path: Path) -> None:
    """The same history with numbers that are numbers, and nulls where nothing was logged."""
    import pyarrow
    import pyarrow.parquet

    names, *lines = (line.split(",") for line in HISTORY.splitlines())
    columns: dict[str, list] = {name: [] for name in names}
    for line in lines:
        for name, cell in zip(names, line, strict=True):
            is_text = name in ("run_id", "run", "note")
            whole = name in ("_step", "seed")
            columns[name].append(None if cell == "" else cell if is_text else int(cell) if whole else float(cell))
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def test_one_file_a_run_and_one_project(ledger: Path, runs: Path, tmp_path: Path) -> None:
    paths = []
    for name, value in (("baseline", 0.4), ("wide", 0.3)):
        paths.append(tmp_path / f"{name}.csv")
        paths[-1].write_text(f",_step,l1\n0,0,0.5\n1,1,{value}\n")  # with the index that pandas puts first
    from_wandb(runs, *paths, project="pilot")
    found = by_lever(ledger, runs)
    (wide,) = [row for (lever, _), row in found.items() if lever == "wide"]
    assert wide["changed_keys"] == ["imported.name"]
    assert table(ledger, "pairs") == []  # nobody wrote down that their seeds are one
    assert len(from_wandb(runs, *paths, project="pilot").known) == 2


def test_a_plot_of_several_runs(ledger: Path, runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "plot.csv"
    path.write_text(PLOT)
    from_wandb(runs, path)
    found = by_lever(ledger, runs)
    assert sorted(lever for lever, _ in found) == ["control", "delta-off"]
    (lever_id,) = [row["run_id"] for (lever, _), row in found.items() if lever == "delta-off"]
    rows = [row for row in table(ledger, "metrics") if row["run_id"] == lever_id]
    assert sorted((row["metric"], row["step"], row["value"]) for row in rows) == [
        ("loss", -1, 1.5),
        ("loss", 0, 2.0),
        ("loss", 20, 1.5),
    ]


def test_a_plot_of_one_run_is_a_history_of_the_files_name(ledger: Path, runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "baseline.csv"
    path.write_text('"Step","loss","loss__MIN","loss__MAX"\n"0","1.0","1.0","1.0"\n')
    from_wandb(runs, path)
    by_lever(ledger, runs)
    assert {(row["metric"], row["step"]) for row in table(ledger, "metrics")} == {("loss", 0), ("loss", -1)}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"loss,acc\n1,2\n", "has no column _step or Step.*It has: loss, acc"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"_step,loss\n0\n1\n", r"line 2 has 1 cells, expected 2: the line is torn. 2 of 2 rows of a.csv"),
        ("a.csv", b"_step,loss\n0,1,5\n1,1\n2,1,5\n", r"line 2 has 3 cells, expected 2: the line is torn. 2 of 3 rows"),
        ("a.csv", b'_step,loss\n0,"1.0\n', "line 2 has quotes that do not fit: the line is torn"),
        ("a.csv", b'_step,loss\n0,"1.0\n1,1.0\n', "cannot be read as a csv file from line 2 on: .*Mend its quotes"),
        ("a.csv", b'_step,"loss\n', "cannot be read as a csv file from line 1 on"),
        ("a.csv", b"_step,loss\n\xff\xfe,1\n", r"line 2: _step is .*xff.*, expected a whole number"),
        ("a.csv", "_step,loss\n0,1\n".encode("utf-16"), "is UTF-16. Save it as UTF-8"),
        ("a.csv", b"_step,loss\n0.5,1\n", "line 2: _step is '0.5', expected a whole number"),
        ("a.csv", b"_step,loss\n0,1\n0,2\n", "run 'a' has step 0 twice"),
        ("a.csv", b"_step,loss,loss\n0,1,2\n", "has two columns 'loss'"),
        ("a.csv", b"Step,Group: x - loss\n0,1\n", "is an average over a group of runs"),
        ("a.csv", b"Relative Time (Process),a - loss\n0.1,1\n", "it was plotted over 'Relative Time"),
        ("a.parquet", b"PAR1 no more", "cannot be read as a parquet file"),
    ],
)
def test_what_is_no_export_is_one_sentence(runs: Path, tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FlowlabError, match=words) as caught:
        from_wandb(runs, path, control="a")
    assert "\n" not in str(caught.value)
    assert not runs.exists()


def test_a_plot_over_another_axis_has_steps_of_its_own(ledger: Path, runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "plot.csv"
    path.write_text('"epoch","a - _step","a - _step__MIN","a - loss"\n"0","40","40","1.0"\n"1","80","80","0.5"\n')
    from_wandb(runs, path, control="a")
    by_lever(ledger, runs)
    assert {(row["step"], row["value"]) for row in table(ledger, "metrics")} == {(40, 1.0), (80, 0.5), (-1, 0.5)}


def test_a_process_that_dies_leaves_nothing_that_ingestion_sees(
    ledger: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = pilot(tmp_path / "mlflow.db")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("flowlab.interop.import_runs._require_same", die)
        patched.setattr("flowlab.interop.import_runs.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            from_mlflow(store.path, runs)
    assert len(list(runs.rglob("journal.jsonl"))) == 3
    assert by_lever(ledger, runs) == {}
    assert len(from_mlflow(store.path, runs).added) == 3
    assert len(by_lever(ledger, runs)) == 3


def test_names_that_kebab_letters_cannot_tell_apart_stay_apart(runs: Path, tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    names = ["lr=1", "lr=-1", "\u57fa\u7ebf 1", "\u6a21\u578b 1", "x" * 70, "x" * 71, "Deep Net", "deep_net"]
    for number, name in enumerate(names):
        store.run(f"{number}", name, {"loss": [(0, 1.0)]}, params={"seed": "1"})
    done = from_mlflow(store.path, runs, control="\u57fa\u7ebf 1")
    levers = [run.lever for run in done.added]
    assert levers[2] == "control"
    assert levers[6] == levers[7] == "deep-net"
    assert len(set(levers)) == 7
    assert "'Deep Net', 'deep_net' are all taken as deep-net" in done.notes


def test_runs_whose_digests_begin_alike_are_two(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowlab.interop.imported.digest_json", lambda value: "0" * 8 + digest_json(value))
    done = from_mlflow(pilot(tmp_path / "mlflow.db").path, runs)
    assert len(done.added) == len(list(runs.iterdir())) == 3


def test_an_imported_control_is_in_no_panel_of_ours(ledger: Path, runs: Path, tmp_path: Path) -> None:
    params = {"delta": "10", "lr": "0.1"}  # of both controls: their recipes, metric and seeds are the same
    campaign = Campaign(ledger, runs, panel_rule())
    done = from_mlflow(pilot(tmp_path / "mlflow.db").path, runs, STEERING[1], seed_from="seed")
    assert {run.control_digest for run in done.added} == {digest_json(params)}
    for lever, seed, value in (("ours", 1001, 0.1), ("ours", 1002, 0.1), ("control", 1001, 0.4)):
        campaign.run(lever, seed, value, control=digest_json(params))
    verdict = campaign.verdicts()["ours"]
    assert (verdict.decision, verdict.panel_count, verdict.num_pairs) == ("undecided", 1, 1)


def test_imported_controls_tell_no_sigma_that_a_rule_is_sealed_with(ledger: Path, runs: Path, tmp_path: Path) -> None:
    store = MlflowStore(tmp_path / "mlflow.db")
    for number in range(20):
        store.run(f"{number}", "baseline", {KEY: [(0, 0.4 + number * 1e-6)]})
    assert len(from_mlflow(store.path, runs, STEERING[1]).added) == 20
    campaign = Campaign(ledger, runs, panel_rule())
    campaign.controls({1001: 0.40, 1002: 0.42})
    spread = [(row["num_controls"], row["mean"]) for row in campaign.ask("control_spread where metric = 'l1'")]
    assert sorted(spread) == [(2, pytest.approx(0.1)), (2, pytest.approx(0.41))]
