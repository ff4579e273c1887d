"""What no file may do, whoever writes it. The layers themselves are contracts of import-linter in pyproject.toml."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "flowlab").rglob("*.py"))
HEAVY = ("torch", "zarr", "safetensors")
LIGHT_PACKAGES = ("core", "study", "ledger", "verdict", "report", "cli")
LINES_AT_MOST = 400

GLOBAL_SEEDING = {
    "torch.manual_seed",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.seed",
    "random.seed",
}
NUMPY_GENERATORS = {"Generator", "Philox", "BitGenerator", "SeedSequence", "PCG64", "default_rng"}


def in_words(path):
    return path.relative_to(ROOT).as_posix()


def calls(path):
    """(line, dotted name) of every call in a file, as far as the name is plain."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def test_there_are_files_to_look_at():
    assert len(SOURCES) > 20


def test_imports_point_down_only():
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("package", LIGHT_PACKAGES)
def test_a_light_package_imports_nothing_heavy(package):
    modules = [
        in_words(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in sorted((ROOT / "flowlab" / package).rglob("*.py"))
    ]
    assert len(modules) > 1, f"flowlab.{package} is empty"
    code = f"import sys, {', '.join(modules)}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert told.stdout.strip() == ""


@pytest.mark.parametrize("module", ["frames", "slices", "definitions", "metrics", "readouts", "baselines", "bank"])
def test_numbers_are_scored_without_torch(module):
    code = f"import sys, flowlab.evaluate.{module}; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout.strip() == "False"


def test_what_learns_and_what_scores_know_no_channel_by_name():
    """Channels are data: whoever adds an arm or a boat finds nothing here to change, comments included."""
    files = [path for folder in ("evaluate", "policy") for path in (ROOT / "flowlab" / folder).rglob("*.py")]
    assert len(files) > 20
    assert [in_words(path) for path in files if re.search("steering|gas|brake", path.read_text(), re.I)] == []


@pytest.mark.parametrize("path", SOURCES, ids=in_words)
def test_no_file_is_too_long(path):
    assert len(path.read_text().splitlines()) <= LINES_AT_MOST


@pytest.mark.parametrize("path", [path for path in SOURCES if "cli" not in path.parts], ids=in_words)
def test_only_the_cli_prints(path):
    printed = [line for line, name in calls(path) if name in {"print", "sys.stdout.write", "sys.stderr.write"}]
    assert printed == []


@pytest.mark.parametrize("path", SOURCES, ids=in_words)
def test_randomness_is_an_argument(path):
    """No global seeding, and no draw from numpy's or Python's global generators."""
    seeded = [
        (line, name)
        for line, name in calls(path)
        if name in GLOBAL_SEEDING
        or (name.startswith(("np.random.", "numpy.random.")) and name.split(".")[2] not in NUMPY_GENERATORS)
        or (name.startswith("random.") and name != "random.Random")
    ]
    assert seeded == []


@pytest.mark.parametrize("path", SOURCES, ids=in_words)
def test_no_file_or_folder_is_called_after_nothing(path):
    assert not {part.removesuffix(".py") for part in path.relative_to(ROOT).parts} & {
        "utils",
        "common",
        "helpers",
        "misc",
    }


def test_only_the_ledger_opens_duckdb():
    opened = [
        in_words(path)
        for path in SOURCES
        for node in _at_run_time(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(name.split(".")[0] in {"duckdb", "sqlalchemy", "alembic"} for name in _imported(node))
    ]
    assert [path for path in opened if not path.startswith("flowlab/ledger/")] == []


def _at_run_time(node):
    """Every node of a file but what is imported for the type checker alone."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _at_run_time(child)


def _imported(node):
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
