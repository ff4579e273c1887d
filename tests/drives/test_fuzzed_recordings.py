from pathlib import Path

import pytest

from tests.fuzz.recordings import mutant, prepare, read


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = tmp_path_factory.mktemp("study")
    prepare(study)
    return study


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_a_mutant_of_a_log_is_a_drive_that_keeps_its_promises_or_a_sentence(study, first):
    for seed in range(first, first + 10):
        assert read(study, mutant(seed)) in ("read", "DriveError", "FaultyDriveError")
