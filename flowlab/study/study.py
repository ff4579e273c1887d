"""Finds and reads a study: the folder with experiments.toml and everything that its file says."""

import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from flowlab.core.errors import MissingError, StudyError, unknown_name
from flowlab.study.lever import pull
from flowlab.study.problems import sentence
from flowlab.study.recipe import Recipe
from flowlab.study.rule import Rule, write_out
from flowlab.study.settings import StudyFile

FILE_NAME = "experiments.toml"
CONTROL = "control"


@dataclass(frozen=True)
class Study:
    """A folder with experiments.toml, read and checked. Paths below are where its parts live."""

    root: Path
    file: StudyFile = field(repr=False)

    @property
    def name(self) -> str:
        return self.file.study.name

    @property
    def control(self) -> Recipe:
        return self.file.control

    @property
    def levers(self) -> tuple[str, ...]:
        """The levers' names, in the file's order."""
        return tuple(self.file.levers)

    @cached_property
    def rule(self) -> Rule:
        """The rule that judges this study, written out."""
        name = self.file.study.rule
        return write_out(name, self.file.rules[name], self.file.study.primary)

    def recipe(self, lever: str) -> Recipe:
        """The recipe of `lever`, or the control's for "control". Raises UnknownNameError with the nearest name."""
        if lever == CONTROL:
            return self.control
        if lever not in self.file.levers:
            raise unknown_name("lever", lever, (CONTROL, *self.file.levers))
        return pull(lever, self.control, self.file.levers[lever].set)

    @property
    def caches(self) -> Path:
        return self.root / "caches"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.duckdb"


def find_study(start: Path) -> Path:
    """The nearest folder at or above `start` that holds experiments.toml. Raises MissingError with the next step."""
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder
    raise MissingError(
        f"no {FILE_NAME} in {start} or above it. Start one: flowlab init DIR --source udacity --root PATH, "
        f"or name the study's folder with --study DIR."
    )


def load_study(root: Path) -> Study:
    """Read and check the study at `root`. Raises StudyError or UnknownNameError in one sentence for the first thing wrong."""
    path = root / FILE_NAME
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"no {FILE_NAME} in {root}. Start one: flowlab init {root}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{FILE_NAME} is not valid TOML: {error}.") from None
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        file = StudyFile.model_validate(given)
    except ValidationError as error:
        raise StudyError(f"{FILE_NAME}: {sentence(error, StudyFile, given)}") from None
    return _checked(Study(root.resolve(), file))


def _checked(study: Study) -> Study:
    """The study, once every name in it is known and every lever changes what it says."""
    file = study.file
    if file.study.rule not in file.rules:
        raise unknown_name("rule in study.rule", file.study.rule, file.rules)
    if CONTROL in file.levers:
        raise StudyError(f"{FILE_NAME}: a lever cannot be named {CONTROL!r}; that is the reference recipe. Rename it.")
    for lever in file.levers:
        study.recipe(lever)
    for name, rule in file.rules.items():
        write_out(name, rule, file.study.primary)
    return study
