"""A fixed part of each fuzzer: no traceback, no hang, nothing taken for what it is not."""

from pathlib import Path

from tests.fuzz import caches, files, journals, mutate, toml


def require_sound(tally: mutate.Tally, count: int) -> None:
    assert tally.faults == []
    assert tally.ends.total() == count
    assert tally.ends["refused"] > 0


def test_mutants_of_the_file_of_a_study() -> None:
    require_sound(toml.run(60, seed=11), 60)


def test_mutants_of_a_cache() -> None:
    require_sound(caches.run(40, seed=11), 41)


def test_mutants_of_encoders_stats_policies_resume_files_notes_and_pieces() -> None:
    tally = files.run(140, seed=11)
    require_sound(tally, 140)
    assert tally.ends[files.ANEW] > 0


def test_mutants_of_journals(tmp_path: Path, template: Path) -> None:
    tally = journals.run_in(tmp_path, template, 2, seed=11)
    assert tally.faults == []
    assert tally.ends.total() == 2


def test_a_fault_is_counted_as_what_it_is() -> None:
    def altered() -> str:
        raise AssertionError("other numbers")

    def broken() -> str:
        raise KeyError("digest")

    def slow() -> str:
        raise TimeoutError

    tally = mutate.Tally()
    for name, look in (("a", altered), ("b", broken), ("c", slow), ("d", lambda: "taken")):
        tally.attempt(name, look)
    assert tally.ends == {"ALTERED": 1, "TRACEBACK": 1, "HANG": 1, "taken": 1}
    assert [fault.split(": ")[:2] for fault in tally.faults] == [["ALTERED", "a"], ["TRACEBACK", "b"], ["HANG", "c"]]
