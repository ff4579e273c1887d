"""A small fixed part of the fuzz of imports; `python -m tests.fuzz.imports` runs as many as asked for."""

from tests.fuzz.imports import run


def test_damaged_files_are_imported_or_refused() -> None:
    counts, faults = run(60, seed=11)
    assert faults == []
    for kind in ("csv", "parquet", "db", "wandb"):
        assert counts[f"{kind} imported"] > 0
        assert counts[f"{kind} refused"] > 0
