"""`flowlab`: the entry point, and how errors reach a person."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import typer

from flowlab.cli.commands import COMMANDS, GROUPS
from flowlab.cli.lazy import lazy_group
from flowlab.core.errors import FlowlabError, StoppedError, is_out_of_memory
from flowlab.core.files import trouble

# Typer carries its own copy of click: its errors are found through the classes that Typer does export.
UsageProblem: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

BAD_INPUT = 2
INTERRUPTED = 130

HELP = "Encode a driving data set once, train many paired policies from it, and let registered rules decide."


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit: 0 done, 2 bad input in one sentence, 130 interrupted."""
    # Looking for plug-ins of pydantic reads what each installed package says of itself; flowlab's models need none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    code = run_command(sys.argv[1:] if arguments is None else arguments)
    if code == INTERRUPTED:
        _leave_at_once()
    sys.exit(code)


def _leave_at_once() -> None:
    """Where DuckDB does not let go of a question after Ctrl-C: Python would wait for it once more at its own end."""
    from flowlab.ledger.connection import is_stuck

    if is_stuck():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


PACIFIED = "PacifyFlushWrapper"
"""What Typer puts in the place of stdout when nobody reads it any more, before it leaves with 1."""


def run_command(arguments: list[str]) -> int:
    """The exit code of one command."""
    command: Any = lazy_group("flowlab", HELP, COMMANDS, GROUPS)
    try:
        with nullcontext() if "--help" in arguments else _first_word():
            code = command.main(args=arguments, prog_name="flowlab", standalone_mode=False)
        if code == INTERRUPTED:  # Typer has caught the Ctrl-C by then
            say("stopped. What is done is kept: give the same command again to go on.")
        return code if isinstance(code, int) else 0
    except StoppedError as stop:
        say(f"stopped. {stop}")
        return INTERRUPTED
    except FlowlabError as error:
        say(f"error: {error}")
    except UsageProblem as error:
        say(f"error: {_usage_sentence(error)}")
    except BrokenPipeError:
        _forget_stdout()
        return 0  # whoever read stdout has seen enough
    except SystemExit:
        if type(sys.stdout).__name__ != PACIFIED:
            raise
        _forget_stdout()
        return 0  # the same, where Typer has noticed it
    except UnicodeError:
        say("error: an argument or the name of a file is not UTF-8 text. Rename it, or give another one.")
    except OSError as error:
        say(f"error: {trouble(error)}")
        _forget_stdout()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        told = str(error).strip().partition("\n")[0] or type(error).__name__
        say(f"error: out of memory ({told}). What is done is kept: free some, or ask for less, and give it again")
    return BAD_INPUT


def say(message: str) -> None:
    """One line on stderr. Rich is imported with it: help is printed without."""
    from flowlab.cli.screen import say as say_it

    say_it(message)


def _first_word() -> AbstractContextManager[None]:
    from flowlab.cli.screen import first_word

    return first_word()


def _usage_sentence(error: Any) -> str:
    """What is wrong with the command line, and how to ask for help."""
    message = " ".join(error.format_message().split()).replace(": Value error, ", ": ")  # a word of pydantic's
    context = getattr(error, "ctx", None)
    return f"{message} See {context.command_path if context else 'flowlab'} --help"


def _forget_stdout() -> None:
    """Nothing more can be written there; Python would try once more at its end and print a traceback."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 -- a descriptor, not a file of ours
        os.dup2(nowhere.fileno(), 1)
