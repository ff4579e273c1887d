"""Where conditions lie follows from what is free, is told, and changes no number."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flowlab.core.errors import StudyError
from flowlab.core.object_store import ObjectStore
from flowlab.lab import conditions
from flowlab.lab.conditions import VARIABLE, Placement, choose_placement
from flowlab.lab.ground import open_ground
from flowlab.lab.plan import plan_runs
from flowlab.lab.run import run_all
from flowlab.lab.where import Where
from flowlab.study.study import Study, load_study
from flowlab.train.cohort import Cohort
from tests.lab.small_study import CPU, Said, edited

GPU = torch.device("cuda")


@pytest.mark.parametrize(
    ("needed", "limit", "free", "way"),
    [
        (74, "", 100, "resident"),
        (76, "", 100, "streamed"),
        (10**12, "", None, "resident"),  # where the system does not say what is free
        (2e9, "2", 100, "resident"),
        (2e9, "1.9", 10**12, "streamed"),
        (1, "0", 10**12, "streamed"),
    ],
)
def test_conditions_lie_where_they_fit(
    monkeypatch: pytest.MonkeyPatch, needed: int, limit: str, free: int | None, way: str
) -> None:
    monkeypatch.setenv(VARIABLE, limit)
    monkeypatch.setattr(conditions, "free_memory", lambda: free)
    assert choose_placement(needed, CPU).way == way


@pytest.mark.parametrize(("needed", "way"), [(74, "resident"), (76, "pinned"), (151, "streamed")])
def test_what_does_not_fit_on_a_gpu_lies_in_main_memory(monkeypatch: pytest.MonkeyPatch, needed: int, way: str) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(conditions, "free_memory", lambda: 200)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    assert choose_placement(needed, GPU).way == way


@pytest.mark.parametrize("limit", ["much", "-1", "nan"])
def test_a_limit_that_is_no_number_is_told(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv(VARIABLE, limit)
    with pytest.raises(StudyError, match=f"{VARIABLE} is '{limit}', expected how many GB"):
        choose_placement(1, CPU)
    with pytest.raises(StudyError, match=f"{VARIABLE} is '{limit}'"):
        Where.chosen("cpu", "inline")  # before anything is built or begun


@pytest.mark.parametrize(
    ("size", "told"), [(885_000, "0.9 MB"), (0, "0.0 MB"), (150_000_000, "0.1 GB"), (2e10, "20.0 GB")]
)
def test_small_conditions_are_told_in_mb(size: float, told: str) -> None:
    assert f"conditions of {told} do not" in conditions._too_large(int(size), Placement("streamed", 0.0))


def test_rows_in_any_order_are_not_streamed_from_an_object_store(copy: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study, said = edited(copy, "steps = 2", "steps = 8"), Said()
    ground = open_ground(study, [])
    (item,) = plan_runs(study, ground, ["control"], [1001], {}, again=False)[:1]
    cache = replace(ground.supplies["control"].cache, path=ObjectStore("s3://bucket/there.zarr"))
    monkeypatch.setenv(VARIABLE, "0")
    with pytest.raises(StudyError, match=r'lie in s3://bucket/there\.zarr, .* Set train\.shuffle = "blocks"'):
        conditions.train_conditions(cache, ("normal",), [0], Cohort((item.run,)), CPU, said)


def trained(study: Study, said: Said) -> dict[str, list]:
    """All numbers of the runs that the control at one seed needs, and the digest of their policies and draws."""
    ground = open_ground(study, [])
    run_all(study, ground, plan_runs(study, ground, ["control"], [1001], {}, again=False), CPU, said)
    found: dict[str, list] = {}
    for path in sorted(study.runs.glob("*/journal.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [line["rows"] for line in lines if line["kind"] == "metrics"]
        kept = [(line["name"], line["digest"]) for line in lines if line["kind"] == "artifact"]
        found[path.parent.name] = [rows, kept]
    return found


@pytest.mark.parametrize(
    ("shuffle", "told"),
    [("blocks", "in shuffled blocks"), ("rows", 'row by row, which is slow. train.shuffle = "blocks"')],
)
def test_runs_that_are_streamed_have_the_numbers_of_those_that_are_not(
    copy: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shuffle: str, told: str
) -> None:
    study = edited(copy, "steps = 2", f'steps = 8\nshuffle = "{shuffle}"')
    resident = trained(study, Said())
    study.runs.rename(tmp_path / "resident")
    monkeypatch.setenv(VARIABLE, "0")
    said = Said()
    assert trained(load_study(study.root), said) == resident
    assert len(resident) == 2
    assert any(told in line for line in said.lines), said.lines
