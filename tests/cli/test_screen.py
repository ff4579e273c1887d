"""What is shown is text: nothing in it can make a terminal do things."""

import subprocess
import sys
from pathlib import Path

import pytest

from flowlab.cli.screen import out, plain, print_json, say, table

EVIL = "red \x1b[31m\x9b\x00\x7f \u202edrow\u2069 \ud800"
TOLD = r"red \x1b[31m\x9b\x00\x7f \u202edrow\u2069 \ud800"


def test_characters_that_a_terminal_obeys_are_shown_as_escapes() -> None:
    assert plain(EVIL) == TOLD
    assert plain("Müller 車 [bold] :car:\n\t") == "Müller 車 [bold] :car:\\n\\t"
    assert plain("two\nlines", "\n") == "two\nlines"


def test_tables_titles_and_messages_carry_none_of_them(capsys: pytest.CaptureFixture) -> None:
    out().print(table(["column\x1b", "[/odd]"], [[EVIL, 1.5], ["two\nlines", None]], f"title\x1b\n{EVIL}"))
    out().print(f"{EVIL} [/x] :car:", soft_wrap=True)
    say(f"error: {EVIL}")
    told = capsys.readouterr()
    assert told.out.count(TOLD) == 3 and told.err == f"error: {TOLD}\n"
    assert "column\\x1b" in told.out and "[/odd]" in told.out and "two\\nlines" in told.out
    assert "[/x] :car:" in told.out
    assert all(one.isprintable() or one == "\n" for one in told.out + told.err)


def test_json_has_them_as_they_are(capsys: pytest.CaptureFixture) -> None:
    print_json([{"name": "\x1b[31m\u202e"}])
    assert capsys.readouterr().out == '[\n  {\n    "name": "\\u001b[31m\\u202e"\n  }\n]\n'


def speaking(stream: str, say_it: str, tmp_path: Path) -> tuple[int, bool]:
    """A process that says more than a pipe holds, to one who leaves after a word: its exit code, and if it went on."""
    program = f"""
from pathlib import Path
from flowlab.cli.screen import Bars, out
for number in range(20_000):
    {say_it}
Path("done").touch()
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, **{stream: subprocess.PIPE})
    pipe = getattr(process, stream)
    assert pipe.read(1)
    pipe.close()
    return process.wait(60), (tmp_path / "done").exists()


def test_work_goes_on_when_nobody_reads_its_messages_any_more(tmp_path: Path) -> None:
    assert speaking("stderr", "Bars().say(f'message {number}')", tmp_path) == (0, True)


def test_who_has_read_enough_of_an_answer_ends_it_without_a_fault(tmp_path: Path) -> None:
    """`run_command` then leaves with 0."""
    answering = "try: out().print(number)\n    except BrokenPipeError: raise SystemExit(7)"
    assert speaking("stdout", answering, tmp_path) == (7, False)
