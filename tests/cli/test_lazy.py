"""The table of commands: listing them imports nothing heavy, and says what the commands themselves say."""

import json
import subprocess
from importlib import import_module

import pytest

from flowlab.cli.commands import COMMANDS, GROUPS
from tests.cli.tiny_study import command

HEAVY = (
    "rich",
    "rich.progress",
    "logging",
    "pydantic",
    "numpy",
    "duckdb",
    "sqlalchemy",
    "torch",
    "flowlab.study",
    "flowlab.ledger",
)


def imported(*arguments: str) -> list[str]:
    """What of HEAVY a command has imported at its end."""
    code = (
        f"import json, sys; from flowlab.cli.main import run_command; run_command({list(arguments)!r});"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)"
    )
    done = subprocess.run([command()[0], "-c", code], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    return json.loads(done.stderr)


def test_help_imports_no_command() -> None:
    assert imported("--help") == []


def test_the_help_of_a_group_imports_no_command() -> None:
    assert set(imported("rule", "--help")) <= {"pydantic"}  # Typer reads arguments with it


def test_the_help_of_verdict_needs_neither_numpy_nor_the_ledger() -> None:
    assert imported("verdict", "--help") == ["rich", "pydantic", "flowlab.study"]


def test_the_help_has_the_whole_line_of_every_command_and_group_within_80_columns() -> None:
    told = subprocess.run(command("--help"), capture_output=True, text=True, check=True).stdout
    assert max(map(len, told.splitlines())) <= 80
    whole = " ".join(told.split())
    for name, line in [*((key, line) for key, (_, line) in COMMANDS.items() if " " not in key), *GROUPS.items()]:
        assert f"{name} {line}" in whole


def test_without_a_command_there_is_the_help_and_a_sentence() -> None:
    done = subprocess.run(command(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: Missing command. See flowlab --help\n")
    assert done.stdout == subprocess.run(command("--help"), capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_line_of_the_table_is_the_first_of_the_docstring(name: str) -> None:
    target, line = COMMANDS[name]
    module, _, function = target.partition(":")
    docstring = getattr(import_module(module), function).__doc__
    assert docstring.splitlines()[0] == line


def test_every_group_has_a_line_and_every_line_a_group() -> None:
    assert {name.split()[0] for name in COMMANDS if " " in name} == set(GROUPS)
