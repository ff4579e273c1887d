"""Offline runs of W&B are read from their `.wandb` files: whole, cut short by a kill, or damaged."""

import math
from pathlib import Path

import pytest

from flowlab.core.errors import LedgerError, UnknownNameError
from flowlab.interop.foreign import Foreign
from flowlab.interop.import_runs import import_runs
from flowlab.interop.metric_map import MetricMap
from flowlab.interop.wandb_export import read_exports
from flowlab.interop.wandb_records import fields_of, records_of
from flowlab.ledger.ingest import ingest
from tests.interop.foreign_files import message, offline_records, write_offline
from tests.ledger.ledger_files import table

HISTORY = [{"loss": 1.0, "val/l1": 0.5, "note": "hello", "_timestamp": 1_700_000_001.5}, {"loss": 0.25, "val/l1": 0.4}]


def read(*paths: Path, lever_from: str | None = None, seed_from: str | None = None) -> Foreign:
    return read_exports(paths, None, lever_from, seed_from)


def test_offline_runs_become_runs_that_pair(ledger: Path, runs: Path, tmp_path: Path) -> None:
    paths = []
    for run_id, name, width, loss in (("r1", "baseline", 4, 0.5), ("r2", "Wide", 8, 0.25)):
        config = {"training": {"seed": 7}, "width": width, "_wandb": {}}
        records = offline_records(run_id, name, config, [*HISTORY, {"loss": loss}])
        paths.append(write_offline(tmp_path / f"run-{run_id}.wandb", records))
    foreign = read(*paths, seed_from="training.seed")
    done = import_runs(foreign, runs, "test", "baseline", MetricMap.parse([]))
    assert foreign.experiment == "pilot"
    assert [(run.lever, run.seed, run.recipe["width"]) for run in done.added] == [("control", 7, 4), ("wide", 7, 8)]
    assert done.added[0].foreign.keys == ("loss", "val.l1")
    assert (foreign.runs[0].started_us, foreign.runs[0].ended_us) == (1_700_000_000_000_000, 1_700_000_001_500_000)
    assert "values that are no numbers, left out: note (2)" in done.notes
    ingest(ledger, runs)
    (pair,) = [row for row in table(ledger, "pairs") if row["metric"] == "loss"]
    assert (pair["delta"], pair["seed"]) == (-0.25, 7)


@pytest.mark.parametrize(
    ("exit_code", "status", "said"),
    [(0, "finished", "exit code 0"), (3, "crashed", "exit code 3"), (None, "crashed", "no exit in its file")],
)
def test_how_a_run_ended(tmp_path: Path, exit_code: int | None, status: str, said: str) -> None:
    records = offline_records("r1", "baseline", None, HISTORY, exit_code)
    found = read(write_offline(tmp_path / "a.wandb", records))
    assert (found.runs[0].status, found.runs[0].said) == (status, said)
    assert len(found.notes) == (exit_code is None)


def test_records_of_any_length_are_read(tmp_path: Path) -> None:
    history = [{"loss": float(step), "text": "x" * (step * 977)} for step in range(120)]
    path = write_offline(tmp_path / "a.wandb", offline_records("r1", "baseline", None, history))
    assert path.stat().st_size > 100 * 32768
    (run,) = read(path).runs
    assert run.read().values["loss"] == {step: float(step) for step in range(120)}


def test_of_a_killed_run_what_is_whole_is_read(tmp_path: Path) -> None:
    content = write_offline(tmp_path / "a.wandb", offline_records("r1", "baseline", None, HISTORY)).read_bytes()
    counts = []
    for length in range(len(content)):
        (tmp_path / "a.wandb").write_bytes(content[:length])
        try:
            (run,) = read(tmp_path / "a.wandb").runs
        except LedgerError:
            counts.append(0)
        else:
            counts.append(1 + len(run.read().values.get("loss", {})))
            assert run.status == "crashed"
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}


def test_room_that_was_never_written_to_is_no_damage(tmp_path: Path) -> None:
    path = write_offline(tmp_path / "a.wandb", offline_records("r1", "baseline", None, HISTORY, None))
    path.write_bytes(path.read_bytes() + bytes(100_000))
    assert len(read(path).notes) == 1  # that it has no end


def test_a_damaged_record_is_left_out_and_what_it_may_have_ended_with(runs: Path, tmp_path: Path) -> None:
    history = [{"loss": 1.0, "text": "x" * 32768}, {"loss": 0.5, "text": "y" * 32768}, {"val": 0.4}]
    path = write_offline(tmp_path / "a.wandb", offline_records("r1", "baseline", {"seed": 1}, history))
    content = bytearray(path.read_bytes())
    content[content.index(b"yyy")] ^= 1
    path.write_bytes(content)
    foreign = read(path, seed_from="seed")
    assert foreign.notes[0].startswith("1 of 6 records of a.wandb left out: record 4 is damaged (its checksum differs)")
    done = import_runs(foreign, runs, "test", "baseline", MetricMap.parse([]))
    assert done.notes[1:] == [
        "values that would be final, where a later one cannot be read, left out: loss (1)",
        "values that are no numbers, left out: text (1)",
    ]


def test_one_file_that_says_nothing_is_left_out_and_most_are_refused(tmp_path: Path) -> None:
    good = write_offline(tmp_path / "good.wandb", offline_records("r1", "baseline", None, HISTORY))
    empty = tmp_path / "empty.wandb"
    empty.write_bytes(b"")
    assert read(good, empty).notes == [
        f"1 of 2 offline runs left out: {empty}: it has no whole record of the run that it is of"
    ]
    with pytest.raises(LedgerError, match=r"empty\.wandb: it has no whole record of the run that it is of\. 1 of 1 o"):
        read(empty)
    empty.write_bytes(b"not a run")
    with pytest.raises(LedgerError, match="is no offline run of W&B that flowlab reads"):
        read(good, empty)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (offline_records("r1", "wide", None, HISTORY), "is of run r1, and so is a file before it"),
        (offline_records("r2", "wide", None, HISTORY, project="other"), "are of several projects: pilot, other"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path: Path, second: list[bytes], words: str) -> None:
    first = write_offline(tmp_path / "a.wandb", offline_records("r1", "baseline", None, HISTORY))
    with pytest.raises(LedgerError, match=words):
        read(first, write_offline(tmp_path / "b.wandb", second))


def test_a_run_whose_config_may_be_damaged_is_left_out(tmp_path: Path) -> None:
    records = offline_records("r1", "baseline", {"lr": 1}, HISTORY)
    records.insert(2, b"\x0b")
    good = write_offline(tmp_path / "good.wandb", offline_records("r2", "baseline", None, HISTORY))
    found = read(good, write_offline(tmp_path / "bad.wandb", records))
    assert [run.run_id for run in found.runs] == ["r2"]
    assert "bad.wandb: record 3 is damaged (field 1 is of wire type 3)" in found.notes[0]


def test_a_link_to_a_run_is_no_other_run(tmp_path: Path) -> None:
    path = write_offline(tmp_path / "a.wandb", offline_records("r1", "baseline", None, HISTORY))
    link = tmp_path / "latest.wandb"
    link.symlink_to(path)
    assert len(read(path, link).runs) == 1


@pytest.mark.parametrize(("name", "label"), [("model.kind", "deep"), ("group", "my-group")])
def test_a_setting_or_the_group_may_name_the_lever(tmp_path: Path, name: str, label: str) -> None:
    path = write_offline(tmp_path / "a.wandb", offline_records("r1", "x", {"model": {"kind": "deep"}}, HISTORY))
    assert read(path, lever_from=name).runs[0].label == label
    with pytest.raises(UnknownNameError, match="unknown column 'grop' in --lever-from: did you mean 'group'"):
        read(path, lever_from="grop")


def test_values_of_every_kind(tmp_path: Path) -> None:
    values = {"a": 3, "b": True, "c": math.nan, "d": -math.inf, "e": 10**400, "f": None, "g": {"h": 2}}
    media = {"picture": {"_type": "image-file", "width": 64}}
    path = write_offline(tmp_path / "a.wandb", offline_records("r1", "x", None, [values | media]))
    points = read(path).runs[0].read()
    assert repr(points.values) == repr(
        {"a": {0: 3.0}, "c": {0: math.nan}, "d": {0: -math.inf}, "e": {0: math.inf}, "g.h": {0: 2.0}}
    )
    assert {key for key, _ in points.left_out} == {"b", "f", "picture"}


def test_typed_values_are_read(tmp_path: Path) -> None:
    items = [
        message((2, "i"), (5, 5)),  # zigzag: -3
        message((2, "n")) + b"\x31" + b"\x00\x00\x00\x00\x00\x00\xf8\x3f",  # field 6, eight bytes: 1.5
        message((2, "t"), (7, "hi")),
        message((2, "o"), (4, 1)),
    ]
    records = offline_records("r1", "x")
    records.insert(2, message((2, message(*((1, one) for one in items), (2, message((1, 9)))))))
    points = read(write_offline(tmp_path / "a.wandb", records)).runs[0].read()
    assert points.values == {"i": {9: -3.0}, "n": {9: 1.5}}
    assert {key for key, _ in points.left_out} == {"t", "o"}


@pytest.mark.parametrize("content", [b"\x08", b"\x0a\x05ab", b"\x0b", b"\xff" * 11, b"\x09\x00"])
def test_a_message_that_is_none_is_told(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"field|number"):
        list(fields_of(content))


def test_pieces_without_a_beginning_are_damage(tmp_path: Path) -> None:
    content = bytearray(write_offline(tmp_path / "a.wandb", [b"x" * 40_000, b"end"]).read_bytes())
    assert list(records_of(bytes(content)))[-1] == b"end"
    first_lost = content[:7] + bytes(32761) + content[32768:]
    assert list(records_of(bytes(first_lost))) == [None, b"end"]
