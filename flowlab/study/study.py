"""Finds and reads a study: the folder with experiments.toml and everything that its file says."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flowlab.core.errors import MissingError, StudyError, unknown_name
from flowlab.core.plugins import locate
from flowlab.core.vocabulary import CONTROL, MERGED_FROM
from flowlab.study.document import FILE_NAME, read_document
from flowlab.study.lever import changed_keys, pull
from flowlab.study.numbers import require_numbers
from flowlab.study.problems import sentence
from flowlab.study.recipe import Recipe, model_channels
from flowlab.study.rule import Rule, write_out
from flowlab.study.settings import OWN_ENCODER, StudyFile, source_channels
from flowlab.study.slices import SliceSettings, slices_for
from flowlab.study.unused import given_keys, why_unused


@dataclass(frozen=True)
class Study:
    """A folder with experiments.toml, read and checked. Paths below are where its parts live."""

    root: Path
    file: StudyFile = field(repr=False)

    @property
    def name(self) -> str:
        return self.file.study.name

    @cached_property
    def control(self) -> Recipe:
        """The base: [control] with the stacked levers' changes made, in their order."""
        base = self.file.control
        for lever in self.stacked:
            base = self.changed(lever, base)
        return base

    @property
    def stacked(self) -> tuple[str, ...]:
        """The levers that the base has taken in, in their order."""
        return self.file.study.stacked

    @property
    def channels(self) -> tuple[str, ...] | None:
        """The raw channels of the drives, or None for a source that says so only once it is opened."""
        return source_channels(self.file.drives)

    @property
    def slices(self) -> dict[str, SliceSettings]:
        """The slices by name, frame and slot slices in the file's order, or flowlab's own where the file has none."""
        return slices_for(self.file.slices, self.channels)

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
        self.require_lever(lever)
        if lever in self.stacked:
            raise StudyError(f"lever {lever!r} is stacked: the control has its changes. Run another lever.")
        return self.changed(lever, self.control)

    def require_lever(self, lever: str) -> None:
        """Raises UnknownNameError with the nearest name for a lever that the file does not have."""
        if lever not in self.file.levers:
            raise unknown_name("lever", lever, self.file.levers)

    def changed(self, lever: str, base: Recipe) -> Recipe:
        """`base` with the changes of `lever` made."""
        return pull(lever, base, self.file.levers[lever].set, self.file.windows.horizon)

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
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).exists():
            return folder
    raise MissingError(
        f"no {FILE_NAME} in {start} or above it. Start one: flowlab init DIR --source udacity --root PATH, "
        f"or name the study's folder with --study DIR."
    )


def load_study(root: Path) -> Study:
    """The study at `root`, read and checked. Raises a FlowlabError in one sentence for the first thing wrong."""
    return build_study(root, read_document(root / FILE_NAME))


def build_study(root: Path, tables: dict[str, Any]) -> Study:
    """The study that the tables of an experiments.toml in `root` mean. Raises a FlowlabError as `load_study` does."""
    try:
        file = StudyFile.model_validate(tables)
    except ValidationError as error:
        raise StudyError(f"{FILE_NAME}: {sentence(error, StudyFile, tables)}") from None
    study = Study(root.resolve(), file)
    _require_known_names(file)
    slices_for(file.slices, study.channels)
    require_numbers(file)
    unused = why_unused(file.control, given_keys(file.control), file.windows.horizon)
    if unused is not None:
        raise StudyError(f"{FILE_NAME}: control.{unused[0]} does nothing here: {unused[1]}. Leave it out.")
    _require_sound("control", file.control, file)
    for lever in file.levers:
        recipe = study.changed(lever, file.control)
        _require_comparable(lever, file.control, recipe)
        _require_sound(f"levers.{lever}", recipe, file)
    for lever in file.study.stacked:
        if lever not in file.levers:
            raise unknown_name("lever", lever, file.levers, "study.stacked")
    if file.study.stacked:
        _require_sound("the control with study.stacked", study.control, file)
    for name, rule in file.rules.items():
        write_out(name, rule, file.study.primary)
    return study


def _require_sound(place: str, recipe: Recipe, file: StudyFile) -> None:
    """Raises for a recipe that could not be trained whatever the data are. `place` is "control" or "levers.NAME"."""
    locate("objectives", recipe.objective.kind, place)
    locate("decoders", recipe.decoder.kind, place)
    horizon, slots = recipe.decoder.horizon, file.windows.horizon
    if horizon is not None and horizon > slots:
        raise StudyError(
            f"{place} has decoder.horizon {horizon}, and a chunk has windows.horizon {slots} slots only. "
            f"Give {slots} or less."
        )
    if recipe.train.history_dropout and "no-history" not in file.cache.variants:
        raise StudyError(
            f"{place} has train.history_dropout, which needs the variant 'no-history'. Add it to cache.variants."
        )
    if recipe.decoder.image_tokens and not file.encoder.image_grid and file.encoder.kind == OWN_ENCODER:
        raise StudyError(
            f"{place} has decoder.image_tokens, and the encoder makes none. Set encoder.image_grid: 4 makes 16 tokens."
        )
    channels = source_channels(file.drives)
    if channels is not None:
        _require_channels(place, recipe, channels)


def _require_channels(place: str, recipe: Recipe, raw_channels: tuple[str, ...]) -> None:
    """Raises for a recipe that asks for channels which the drives do not have."""
    if recipe.action_space.merge and not set(MERGED_FROM) <= set(raw_channels):
        raise StudyError(
            f"{place} has action_space.merge, which needs the channels {' and '.join(MERGED_FROM)}, and the drives "
            f"have {', '.join(raw_channels)}. Set action_space.merge = false."
        )
    channels = model_channels(recipe.action_space, raw_channels)
    for name in recipe.objective.lds.channel_alpha:
        if name not in channels:
            raise unknown_name("model channel", name, channels, f"{place}.objective.lds.channel_alpha")


def _require_comparable(lever: str, control: Recipe, recipe: Recipe) -> None:
    """Raises if the lever's recipe is evaluated in another way than the control's."""
    for key in changed_keys(control, recipe):
        if key.startswith("evaluation."):
            raise StudyError(
                f"levers.{lever} sets {key}: a lever and its control must be evaluated in one way to be compared. "
                f"Change control.{key} instead."
            )


def _require_known_names(file: StudyFile) -> None:
    locate("encoders", file.encoder.kind)
    if file.study.rule not in file.rules:
        raise unknown_name("rule", file.study.rule, file.rules, "study.rule")
    if CONTROL in file.levers:
        raise StudyError(f"{FILE_NAME}: a lever cannot be named {CONTROL!r}; that is the reference recipe. Rename it.")
