import resource

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from flowlab.core.errors import MissingError, ResumeError
from flowlab.train.checkpoint import Resume, load_policy, load_resume, save_policy, save_resume

RUN = "depth-2-1001-0123abcd"
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
    save_resume(tmp_path / "resume", Resume(7, WEIGHTS, MOMENTS), RUN)
    back = load_resume(tmp_path / "resume", RUN, 10)
    assert back is not None
    assert back.step == 7
    assert equal(back.weights, WEIGHTS)
    assert equal(back.moments, MOMENTS)


def test_no_resume_file_is_none(tmp_path):
    assert load_resume(tmp_path / "resume", RUN, 10) is None


def test_a_resume_file_is_refused_wherever_it_was_torn(tmp_path):
    path = tmp_path / "resume"
    save_resume(path, Resume(7, WEIGHTS, MOMENTS), RUN)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ResumeError, match=f"resume of run {RUN} cannot be read"):
            load_resume(path, RUN, 10)


def test_a_resume_file_is_refused_whichever_byte_of_its_numbers_changed(tmp_path):
    path = tmp_path / "resume"
    save_resume(path, Resume(7, WEIGHTS, MOMENTS), RUN)
    content = path.read_bytes()
    for place in range(8 + int.from_bytes(content[:8], "little"), len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :])
        with pytest.raises(ResumeError, match="is not what was written"):
            load_resume(path, RUN, 10)


def edited(tmp_path, change):
    """A resume file with its tensors and metadata changed in place, as another tool would write it."""
    path = tmp_path / "resume"
    save_resume(path, Resume(7, WEIGHTS, MOMENTS), RUN)
    with safe_open(path, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    change(tensors, metadata)
    save_file(tensors, path, metadata)
    return path


BIAS = "weight.condition.bias"
CHANGES = {
    "another step": lambda tensors, metadata: metadata.update(step="9"),
    "a step below the first": lambda tensors, metadata: metadata.update(step="-3"),
    "another run": lambda tensors, metadata: metadata.update(run_id="control-1-0"),
    "another type": lambda tensors, metadata: tensors.update({BIAS: tensors[BIAS].double()}),
    "another shape": lambda tensors, metadata: tensors.update({BIAS: tensors[BIAS].reshape(1, 3)}),
    "a tensor less": lambda tensors, metadata: tensors.pop(BIAS),
    "a tensor more": lambda tensors, metadata: tensors.update(more=torch.ones(1)),
    "not a number": lambda tensors, metadata: tensors[BIAS].fill_(float("nan")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_edited_resume_file_is_refused(tmp_path, change):
    with pytest.raises(ResumeError, match="is not what was written"):
        load_resume(edited(tmp_path, CHANGES[change]), RUN, 10)


def test_a_file_of_another_run_or_with_too_many_steps_is_refused(tmp_path):
    path = tmp_path / "resume"
    save_resume(path, Resume(7, WEIGHTS, MOMENTS), "control-1-0")
    with pytest.raises(ResumeError, match=f"run {RUN} is of run control-1-0 after 7 steps"):
        load_resume(path, RUN, 10)
    save_resume(path, Resume(7, WEIGHTS, MOMENTS), RUN)
    with pytest.raises(ResumeError, match="after 7 steps, not of 6"):
        load_resume(path, RUN, 6)


def test_a_resume_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "resume"
    for content in (b"not a tensor file at all, but long enough", bytes(64), b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(ResumeError):
            load_resume(path, RUN, 10)
    save_policy(path, WEIGHTS, {})
    with pytest.raises(ResumeError, match="cannot be read"):  # a policy knows no step
        load_resume(path, RUN, 10)


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
    save_resume(path, Resume(7, WEIGHTS, MOMENTS), RUN)
    no_room()
    with pytest.raises(OSError):
        save_resume(path, Resume(8, WEIGHTS, MOMENTS), RUN)
    back = load_resume(path, RUN, 10)
    assert back is not None and back.step == 7
    assert [file.name for file in tmp_path.iterdir()] == ["resume"], "no part of a file is left over"
