"""Every number of a run comes back from its event file."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowlab.core.errors import MissingError, UnknownNameError
from flowlab.core.types import MetricRow
from flowlab.interop.event_files import FILE_NAME, write_event_files
from flowlab.journal.lines import RunJournal
from flowlab.ledger.ingest import ingest
from tests.ledger.ledger_files import register, table

pytest.importorskip("tensorboard")


def read_back(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """(step, value, wall time) of every scalar by tag, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loaded: Any = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    loaded.Reload()
    tags = loaded.Tags()["scalars"]
    return {tag: [(event.step, event.value, event.wall_time) for event in loaded.Scalars(tag)] for tag in tags}


def values(folder: Path) -> dict[str, list[tuple[int, float]]]:
    return {tag: [(step, value) for step, value, _ in events] for tag, events in read_back(folder).items()}


def near(value: float) -> float:
    return float(np.float32(value))


def test_every_value_of_every_run_comes_back(judged: Path, tmp_path: Path) -> None:
    out = tmp_path / "events"
    done = write_event_files(judged, out)
    assert (done.num_runs, done.num_values, done.empty) == (4, 20, [])
    assert values(out / "wide-1001") == {
        "flow_mse/overall": [(0, 1.0), (1, 0.5), (2, near(1 / 3))],
        "final/l1/spike_frame/meank/steering": [(2, near(0.37))],
        "final/l1/flat_frame/meank/steering": [(2, near(0.101))],
    }
    times = {row["time_us"] for row in table(judged, "metrics") if row["run_id"] == "wide-1001"}
    shown = {round(wall * 1e6) for events in read_back(out / "wide-1001").values() for _, _, wall in events}
    assert shown == times


def test_writing_it_again_takes_the_place_of_the_old_file(judged: Path, tmp_path: Path) -> None:
    for _ in range(2):
        write_event_files(judged, tmp_path / "events", ["wide-1001"])
    assert [path.relative_to(tmp_path / "events") for path in (tmp_path / "events").rglob("*")] == [
        Path("wide-1001"),
        Path("wide-1001") / FILE_NAME,
    ]
    assert len(values(tmp_path / "events" / "wide-1001")["flow_mse/overall"]) == 3


def test_without_steps_final_values_stand_at_0_and_a_run_without_metrics_gets_no_file(
    ledger: Path, runs: Path, tmp_path: Path
) -> None:
    with RunJournal.of(runs, "only-final") as journal:
        register(journal, "only-final")
        journal.metrics([MetricRow("l1", "", "overall", "", 0.25)])
    with RunJournal.of(runs, "nothing") as journal:
        register(journal, "nothing")
    ingest(ledger, runs)
    done = write_event_files(ledger, tmp_path / "events")
    assert (done.num_runs, done.empty) == (1, ["nothing"])
    assert values(tmp_path / "events" / "only-final") == {"final/l1/overall": [(0, 0.25)]}
    assert not (tmp_path / "events" / "nothing").exists()


def test_two_numbers_never_share_a_tag(ledger: Path, runs: Path, tmp_path: Path) -> None:
    with RunJournal.of(runs, "r1") as journal:
        register(journal, "r1")
        journal.metrics([MetricRow("l1", "x", "overall", "", 1.0, 0), MetricRow("l1", "", "overall", "x", 2.0, 0)])
        journal.metrics([MetricRow("l1", "x", "overall", "", 3.0, 1), MetricRow("l1", "", "overall", "x", 4.0, 1)])
    ingest(ledger, runs)
    write_event_files(ledger, tmp_path / "events")
    assert values(tmp_path / "events" / "r1") == {
        "l1/overall/x": [(0, 1.0), (1, 3.0)],
        "l1/overall/x/-": [(0, 2.0), (1, 4.0)],
    }


def test_a_drive_is_told_with_its_slice(ledger: Path, runs: Path, tmp_path: Path) -> None:
    with RunJournal.of(runs, "r1") as journal:
        register(journal, "r1")
        rows = [("overall", "", 1.0), ("overall", "d1", 2.0), ("spike_frame", "d1", 3.0), ("spike_frame", "d2", 4.0)]
        journal.metrics([MetricRow("l1", "steering", where, "meank", value, 0, drive) for where, drive, value in rows])
    ingest(ledger, runs)
    write_event_files(ledger, tmp_path / "events")
    assert values(tmp_path / "events" / "r1") == {
        "l1/overall/meank/steering": [(0, 1.0)],
        "l1/drive:d1/meank/steering": [(0, 2.0)],
        "l1/spike_frame:drive:d1/meank/steering": [(0, 3.0)],
        "l1/spike_frame:drive:d2/meank/steering": [(0, 4.0)],
    }


def test_an_unknown_run_is_named_with_the_nearest(judged: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown run 'wide-1003': did you mean 'wide-100[12]'"):
        write_event_files(judged, tmp_path / "events", ["wide-1003"])
    assert not (tmp_path / "events").exists()


def test_without_the_library_one_sentence(ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("tensorboard.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingError, match=r"pip install 'flowlab\[tensorboard\]'"):
        write_event_files(ledger, tmp_path / "events")


def test_neither_torch_nor_tensorflow_is_imported() -> None:
    code = (
        "import sys; from flowlab.interop.event_files import Scalar, event_file; "
        "event_file([Scalar(0, 0, 'a', 1.0)], 0); print(sorted({'torch', 'tensorflow'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
