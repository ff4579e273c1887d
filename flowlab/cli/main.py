"""`flowlab`: the entry point, and how errors reach a person."""

import os
import sys
from typing import Any

import typer

from flowlab.cli import judge, ledger, prepare, rules, runs, start
from flowlab.cli.screen import say
from flowlab.core.errors import FlowlabError

# Typer carries its own copy of click: its errors are found through the classes that Typer does export.
UsageProblem: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

BAD_INPUT = 2
INTERRUPTED = 130

app = typer.Typer(
    help="Encode a driving data set once, train many paired policies from it, and let registered rules decide.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
drives = typer.Typer(help="Recordings: make them, look at them.", no_args_is_help=True)
encoder = typer.Typer(help="The frozen encoder: pretrain it, look at it.", no_args_is_help=True)
cache = typer.Typer(help="The cache of condition tokens: build it, look at it.", no_args_is_help=True)

rule = typer.Typer(help="Rules: seal them, amend them, learn how often they would fool you.", no_args_is_help=True)
ledger_group = typer.Typer(help="The ledger: verify its chain, make it anew.", no_args_is_help=True)

app.command()(start.init)
app.command()(start.demo)
app.add_typer(drives, name="drives")
drives.command("record")(prepare.drives_record)
drives.command("show")(prepare.drives_show)
app.add_typer(encoder, name="encoder")
encoder.command("train")(prepare.encoder_train)
encoder.command("show")(prepare.encoder_show)
app.add_typer(cache, name="cache")
cache.command("build")(prepare.cache_build)
cache.command("list")(prepare.cache_list)
cache.command("show")(prepare.cache_show)
app.add_typer(rule, name="rule")
rule.command("list")(rules.rule_list)
rule.command("show")(rules.rule_show)
rule.command("simulate")(rules.rule_simulate)
rule.command("seal")(rules.rule_seal)
rule.command("amend")(rules.rule_amend)
app.command()(runs.run)
app.command()(runs.status)
app.command()(runs.stack)
app.command()(judge.verdict)
app.command()(judge.compare)
app.command()(judge.sql)
app.add_typer(ledger_group, name="ledger")
ledger_group.command("verify")(ledger.ledger_verify)
ledger_group.command("rebuild")(ledger.ledger_rebuild)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit: 0 done, 2 bad input in one sentence, 130 interrupted."""
    sys.exit(run_command(sys.argv[1:] if arguments is None else arguments))


def run_command(arguments: list[str]) -> int:
    """The exit code of one command."""
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="flowlab", standalone_mode=False)
        if code == INTERRUPTED:  # Typer has caught the Ctrl-C by then
            say("stopped. What is done is kept: give the same command again to go on.")
        return code if isinstance(code, int) else 0
    except FlowlabError as error:
        say(f"error: {error}")
    except UsageProblem as error:
        say(f"error: {_usage_sentence(error)}")
    except BrokenPipeError:
        _forget_stdout()
        return 0  # whoever read stdout has seen enough
    except OSError as error:
        say(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}.")
        _forget_stdout()
    return BAD_INPUT


def _usage_sentence(error: Any) -> str:
    """What is wrong with the command line, and how to ask for help."""
    message = " ".join(error.format_message().split()) or "no command given."
    context = getattr(error, "ctx", None)
    return f"{message} See {context.command_path if context else 'flowlab'} --help"


def _forget_stdout() -> None:
    """Nothing more can be written there; Python would try once more at its end and print a traceback."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 -- a descriptor, not a file of ours
        os.dup2(nowhere.fileno(), 1)
