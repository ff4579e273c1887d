import resource

import pytest
import torch

from flowlab.core.errors import MissingError
from flowlab.train.checkpoint import Resume, load_policy, load_resume, save_policy, save_resume

WEIGHTS = {"condition.weight": torch.arange(6.0).reshape(2, 3), "condition.bias": torch.tensor([0.1, -1e-38, 3e38])}
MOMENTS = {"exp_avg.condition.weight": torch.ones(2, 3), "exp_avg_sq.condition.weight": torch.full((2, 3), 2.0)}


def equal(first: dict, second: dict) -> bool:
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


def test_a_policy_comes_back_with_its_metadata(tmp_path):
    path = tmp_path / "new" / "policy.safetensors"
    written = save_policy(path, WEIGHTS, {"recipe": "{}", "seed": "1001"})
    assert path.read_bytes() == written
    weights, metadata = load_policy(path)
    assert equal(weights, WEIGHTS)
    assert metadata == {"recipe": "{}", "seed": "1001"}


def test_equal_policies_are_equal_bytes(tmp_path):
    metadata = {name: name for name in "abcdefgh"}  # which safetensors writes in a new order each time
    assert len({save_policy(tmp_path / "policy", WEIGHTS, metadata) for _ in range(20)}) == 1
    weights, found = load_policy(tmp_path / "policy")
    assert equal(weights, WEIGHTS)
    assert found == metadata


def test_a_view_into_a_cohort_is_saved_as_that_run_alone(tmp_path):
    stacked = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    written = save_policy(tmp_path / "policy", {"w": stacked[1].T}, {})
    assert torch.equal(load_policy(tmp_path / "policy")[0]["w"], stacked[1].T)
    assert len(written) < 400, "20 numbers and a header, not 60 numbers"


def test_a_resume_comes_back(tmp_path):
    save_resume(tmp_path / "resume", Resume(7, WEIGHTS, MOMENTS))
    back = load_resume(tmp_path / "resume")
    assert back is not None
    assert back.step == 7
    assert equal(back.weights, WEIGHTS)
    assert equal(back.moments, MOMENTS)


def test_no_resume_file_is_none(tmp_path):
    assert load_resume(tmp_path / "resume") is None


def test_a_torn_resume_file_is_none_wherever_it_was_torn(tmp_path):
    path = tmp_path / "resume"
    save_resume(path, Resume(7, WEIGHTS, MOMENTS))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert load_resume(path) is None, f"{length} of {len(content)} bytes"


def test_a_resume_file_of_something_else_is_none(tmp_path):
    path = tmp_path / "resume"
    for content in (b"not a tensor file at all, but long enough", bytes(64), b"\xff" * 64):
        path.write_bytes(content)
        assert load_resume(path) is None
    save_policy(path, WEIGHTS, {})
    assert load_resume(path) is None, "a policy knows no step"


@pytest.mark.parametrize("content", [None, b"", b"torn"])
def test_a_policy_that_cannot_be_read_is_an_error_with_the_next_step(tmp_path, content):
    path = tmp_path / "policy.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MissingError, match=r"is not a readable policy: .* Run it again: flowlab run --again"):
        load_policy(path)


@pytest.fixture
def no_room():
    """Files end at 64 bytes, as on a full disk: the write fails in its middle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_leaves_the_old_file(tmp_path, no_room):
    path = tmp_path / "resume"
    save_resume(path, Resume(7, WEIGHTS, MOMENTS))
    no_room()
    with pytest.raises(OSError):
        save_resume(path, Resume(8, WEIGHTS, MOMENTS))
    back = load_resume(path)
    assert back is not None and back.step == 7
    assert [file.name for file in tmp_path.iterdir()] == ["resume"], "no part of a file is left over"
