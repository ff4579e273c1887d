"""What is shown is text: nothing in it can make a terminal do things."""

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
