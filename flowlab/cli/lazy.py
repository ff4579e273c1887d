"""Commands that are imported once they are chosen: to list them, a name and a line are enough."""

import platform
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

Commands = dict[str, tuple[str, str]]
"""Name, such as "cache build", to the function ("flowlab.cli.prepare:cache_build") and its docstring's first line."""


PLAIN = None
"""Typer's mark for help without frames: Rich and what draws frames take longer to import than all the rest of it."""


class Group(TyperGroup):
    """A group whose help has each command's whole line, and which shows its help where no command is given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            print(ctx.get_help())
        return super().parse_args(ctx, args)

    def format_commands(self, _: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help or "") for name, command in self.commands.items()])


class Later(TyperCommand):
    """Stands for a command whose module is not imported yet; makes way for it when it is chosen."""

    def __init__(self, name: str, function: str, line: str) -> None:
        super().__init__(name=name, help=line, rich_markup_mode=PLAIN)
        self.function = function

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self.command().make_context(info_name, args, parent, **extra)

    def command(self) -> Any:
        """The command itself, as Typer makes it of the function."""
        module, _, name = self.function.partition(":")
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=PLAIN)
        alone.command(self.name)(getattr(import_module(module), name))
        return typer.main.get_command(alone)


def print_versions(wanted: bool) -> None:
    """What is installed, without importing any of it."""
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        told = [f"Python {platform.python_version()}"]
        for package in ("torch", "duckdb"):
            try:
                told.append(f"{package} {version(package)}")
            except PackageNotFoundError:
                told.append(f"no {package}")
        print(f"flowlab {version('flowlab')} ({', '.join(told)})")
        raise typer.Exit


def _version_option() -> list[Any]:
    """The option --version, as Typer makes it of a function."""
    alone = typer.Typer(add_completion=False)

    @alone.callback()
    def _(
        versions: Annotated[
            bool,
            typer.Option("--version", help="Say which versions are installed.", callback=print_versions, is_eager=True),
        ] = False,
    ) -> None: ...

    alone.command("one")(print_versions)
    return list(typer.main.get_command(alone).params)


def lazy_group(name: str, line: str, commands: Commands, groups: dict[str, str], is_root: bool = True) -> TyperGroup:
    """The group of `commands`; a name of two words stands in the one of `groups` that its first word names."""
    made = Group(name=name, help=line, params=_version_option() if is_root else [], rich_markup_mode=PLAIN)
    for command, (function, told) in commands.items():
        if " " not in command:
            made.add_command(Later(command, function, told))
    for group, told in groups.items():
        own = {key.removeprefix(f"{group} "): entry for key, entry in commands.items() if key.startswith(f"{group} ")}
        made.add_command(lazy_group(group, told, own, {}, is_root=False))
    return made
