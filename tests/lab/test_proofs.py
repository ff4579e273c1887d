"""What a run trains on is proved before it trains: caches, encoders and stats that somebody changed."""

import json
import shutil
from pathlib import Path

import pytest

from flowlab.cache.attributes import build_name, content_of, read_attributes
from flowlab.core.digest import digest_bytes
from tests.cli.tiny_study import ask, flowlab_here, write_tiny

ACTIONS = "train/action/c/0/0/0"
RUN = ("run", "--executor", "inline", "--lever", "placebo", "--seeds")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose control ran at its panel's two seeds."""
    folder = write_tiny(tmp_path_factory.mktemp("proofs") / "study", steps=2)
    flowlab_here(folder, *RUN, "1001")
    return folder


@pytest.fixture
def study(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "study"))


def cache_of(study: Path) -> Path:
    (path,) = (study / "caches").glob("*.zarr")
    return path


def change(study: Path, with_digest: bool = False) -> None:
    """Add 0.5 to the first action that is trained on; `with_digest`, as somebody does who knows of digests."""
    path = cache_of(study)
    content = bytearray((path / ACTIONS).read_bytes())
    content[3] ^= 0x01
    (path / ACTIONS).write_bytes(content)
    if with_digest:
        metadata = json.loads((path / "zarr.json").read_text())
        metadata["attributes"]["digests"][ACTIONS] = digest_bytes(bytes(content))
        (path / "zarr.json").write_text(json.dumps(metadata))


def runs_of(study: Path) -> list[str]:
    return sorted(path.name for path in (study / "runs").iterdir() if path.is_dir())


def test_a_run_refuses_a_changed_cache_and_a_build_makes_it_anew(study: Path) -> None:
    before, whole = runs_of(study), cache_of(study)
    content = (whole / ACTIONS).read_bytes()
    change(study)
    said = flowlab_here(study, *RUN, "1002", code=2).stderr
    assert f"cache {whole.stem}: {ACTIONS} is not what was written. Build it anew: flowlab cache build" in said
    assert ask(study, "select run_id from runs where lever = 'placebo' and seed = 1002") == []
    said = flowlab_here(study, "cache", "verify", code=2).stderr
    assert f"{ACTIONS} is not what was written" in said
    assert "1 of 3 are not what was written" in said
    said = flowlab_here(study, "cache", "build").stderr
    assert f"{ACTIONS} is not what was written: it is built anew" in said
    assert (whole / ACTIONS).read_bytes() == content
    flowlab_here(study, "cache", "verify")
    flowlab_here(study, *RUN, "1002")
    assert set(runs_of(study)) > set(before)
    flowlab_here(study, "ledger", "verify")


def test_a_cache_that_was_changed_with_its_digests_is_not_the_one_that_runs_read(study: Path) -> None:
    change(study, with_digest=True)
    said = flowlab_here(study, *RUN, "1002", code=2).stderr
    assert (
        f"run control-1001-{next(n for n in runs_of(study) if n.startswith('control-1001'))[-8:]} was trained" in said
    )
    assert "it was changed since" in flowlab_here(study, "cache", "verify", code=2).stderr
    assert "it was changed since" in flowlab_here(study, "ledger", "verify", code=2).stderr


def test_a_run_on_a_cache_that_was_changed_and_put_back_is_found(study: Path) -> None:
    shutil.rmtree(study / "runs")
    (study / "ledger.duckdb").unlink()
    kept = shutil.copytree(cache_of(study), study / "kept")
    change(study, with_digest=True)
    flowlab_here(study, *RUN, "1001")  # nobody knows better yet
    shutil.rmtree(cache_of(study))
    kept.rename(study / "caches" / f"{read_attributes(kept)['cache_id']}.zarr")
    assert "it was changed since" in flowlab_here(study, "ledger", "verify", code=2).stderr
    assert "it was changed since" in flowlab_here(study, *RUN, "1002", code=2).stderr


def test_two_contents_of_one_build_are_found_without_the_cache(study: Path) -> None:
    attributes = read_attributes(cache_of(study))
    (journal,) = (study / "runs").glob("placebo-1001-*/journal.jsonl")
    text = journal.read_text()
    assert f'"{build_name(attributes)}"' in text
    journal.write_text(text.replace(content_of(attributes), "0123456789abcdef"))
    (study / "ledger.duckdb").unlink()
    (study / "runs" / "study.jsonl").unlink()
    shutil.rmtree(study / "caches")
    flowlab_here(study, "status")
    said = flowlab_here(study, "ledger", "verify", code=2).stderr
    assert f"runs read two contents of cache {build_name(attributes)}" in said
    assert "0123456789abcdef" in said


def test_a_damaged_file_of_stats_is_fitted_anew_and_said(study: Path) -> None:
    (path,) = (study / "caches" / "stats").glob("*.json")
    before = path.read_bytes()
    content = json.loads(before)
    content["stats"]["transform"]["physical"] = None
    path.write_text(json.dumps(content))
    assert f"{path.name} is not what was stored" in flowlab_here(study, "cache", "verify", code=2).stderr
    assert f"{path.name} is not what was stored: fitted anew" in flowlab_here(study, "rule", "seal").stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text", ["", "[]", '{"cache_id":"' + "x" * 5000 + '"}', '{"note": {"name": 1}, "digest": 2}', "[" * 10_000]
)
def test_a_note_that_is_not_as_written_is_made_anew(study: Path, text: str) -> None:
    for path in (study / "caches" / "inputs").glob("*.json"):
        path.write_text(text)
    flowlab_here(study, "verdict")
    assert (
        "nothing to do" in flowlab_here(study, "cache", "build").stdout + flowlab_here(study, "cache", "build").stderr
    )
