"""Finds and reads a study: the folder with experiments.toml and everything that its file says."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flowlab.core.errors import FlowlabError, MissingError, StudyError, unknown_name
from flowlab.core.plugins import locate
from flowlab.core.stores import Place, place_of
from flowlab.core.vocabulary import CONTROL, MERGED_FROM
from flowlab.study.document import FILE_NAME, read_document
from flowlab.study.huggingface import HuggingFaceSettings
from flowlab.study.lever import flat_keys, idle_keys, pull, twin_keys
from flowlab.study.numbers import require_numbers
from flowlab.study.problems import sentence
from flowlab.study.ranker import ranker_for
from flowlab.study.recipe import EvaluationSettings, Recipe, model_channels
from flowlab.study.rule import Rule, write_out
from flowlab.study.seconds import in_frames
from flowlab.study.selection import SelectionSettings, selection_for
from flowlab.study.settings import DriveViTSettings, Inputs, StudyFile, source_channels
from flowlab.study.setup import Setup
from flowlab.study.slices import SliceSettings, slices_for
from flowlab.study.tree import require_known_names
from flowlab.study.unused import SLOT_QUERIES, why_unused
from flowlab.study.versions import NEWEST, take_version
from flowlab.study.versions import write_out as write_out_version


@dataclass(frozen=True)
class Study:
    """A folder with experiments.toml, read and checked. Paths below are where its parts live."""

    root: Path
    file: StudyFile = field(repr=False)
    version: int | None = None  # of the recipe, as control.version says, None where the file does not
    given: tuple[str, ...] = ()  # the dotted keys of [control] that the file has

    @property
    def name(self) -> str:
        return self.file.study.name

    @cached_property
    def base(self) -> Setup:
        """The control's setup: that of the file with the stacked levers' changes made, in their order."""
        setup = self.file_setup
        for lever in self.stacked:
            setup = self.changed(lever, setup)
        return setup.model_copy(update={"stats": "control"})  # whose they are: stats_inputs

    @cached_property
    def stats_inputs(self) -> Inputs:
        """The inputs on whose train split the control's stats are fitted.

        Those of the last stacked lever that asked for stats of its own, else those of the file.
        """
        setup, found = self.file_setup, self.file_setup.inputs
        for lever in self.stacked:
            setup = self.changed(lever, setup)
            found = setup.inputs if self.file.levers[lever].stats == "own" else found
        return found

    @cached_property
    def file_setup(self) -> Setup:
        """[control] and the inputs as the file has them, before any lever was stacked.

        Their validation frames are those that every run of the study is scored on.
        """
        return Setup(recipe=self.file.control, inputs=self.file.inputs)

    @property
    def control(self) -> Recipe:
        """The control's recipe."""
        return self.base.recipe

    def evaluated(self, changes: Mapping[str, Any]) -> "Study":
        """This study with other settings of [control.evaluation]. Raises StudyError for one that cannot be."""
        settings = self.file.control.evaluation
        try:
            other = EvaluationSettings.model_validate(settings.model_dump() | dict(changes))
        except ValidationError as error:
            why = sentence(error, EvaluationSettings, dict(changes))
            raise StudyError(f"an evaluation cannot be so: {why}") from None
        control = self.file.control.model_copy(update={"evaluation": other})
        return replace(self, file=self.file.model_copy(update={"control": control}))

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
    def selection(self) -> SelectionSettings | None:
        """How modes are told and selected by, or None where the drives lack the channel and the file has no table."""
        return selection_for(self.file.selection, self.channels)

    @property
    def levers(self) -> tuple[str, ...]:
        """The levers' names, in the file's order."""
        return tuple(self.file.levers)

    @cached_property
    def rule(self) -> Rule:
        """The rule that judges this study, written out."""
        name = self.file.study.rule
        return write_out(name, self.file.rules[name], self.file.study.primary)

    def with_stacked(self, stacked: tuple[str, ...]) -> "Study":
        """The study as it would be, or was, with these levers stacked."""
        table = self.file.study.model_copy(update={"stacked": stacked})
        return replace(self, file=self.file.model_copy(update={"study": table}))

    def setup(self, lever: str) -> Setup:
        """The setup of `lever`, or the control's for "control". Raises UnknownNameError with the nearest name."""
        if lever == CONTROL:
            return self.base
        self.require_lever(lever)
        if lever in self.stacked:
            raise StudyError(f"lever {lever!r} is stacked: the control has its changes. Run another lever.")
        return self.changed(lever, self.base)

    def recipe(self, lever: str) -> Recipe:
        """The recipe of `lever`, as `setup` finds it."""
        return self.setup(lever).recipe

    @cached_property
    def open_levers(self) -> tuple[str, ...]:
        """The levers that the control may yet take in, in the file's order: not stacked, and not overtaken."""
        return tuple(lever for lever in self.levers if lever not in self.stacked and lever not in self.overtaken)

    @cached_property
    def overtaken(self) -> dict[str, str]:
        """The levers that make no sense on the control as it is now, each with the reason in one sentence.

        The file was sound without `study.stacked`, so what stands in their way is a lever that was stacked.
        """
        reasons = {}
        for lever in self.levers:
            if lever not in self.stacked:
                try:
                    require_sound(f"levers.{lever}", self.changed(lever, self.base))
                except FlowlabError as error:
                    reasons[lever] = str(error)
        return reasons

    def idle_keys(self, lever: str) -> list[str]:
        """What `lever` sets to a value that the control has already, perhaps since the control has moved on."""
        return idle_keys(self.base, self.setup(lever), self.file.levers[lever])

    def twin_keys(self, lever: str) -> list[str]:
        """What `lever` changes, if that is by less than a millionth: it is a twin of the control."""
        return twin_keys(self.base, self.setup(lever))

    def require_lever(self, lever: str) -> None:
        """Raises UnknownNameError with the nearest name for a lever that the file does not have."""
        if lever not in self.file.levers:
            raise unknown_name("lever", lever, self.file.levers)

    def changed(self, lever: str, base: Setup) -> Setup:
        """`base` with the changes of `lever` made."""
        return pull(lever, base, self.file.levers[lever])

    @property
    def caches(self) -> Path:
        """What this machine keeps for its caches: encoders, stats, notes, locks. Also the caches, unless they have a
        place of their own: `cache_home`.
        """
        return self.root / "caches"

    @property
    def cache_home(self) -> Place:
        """The folder in which the caches lie."""
        url = self.file.stores.caches
        return self.caches if url is None else place_of(url)

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def run_copies(self) -> Place | None:
        """The folder in which runs have a second copy, if they have one."""
        url = self.file.stores.runs
        return None if url is None else place_of(url)

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
    version, tables = take_version(in_frames(root, tables))
    try:
        file = StudyFile.model_validate(write_out_version(tables, version or NEWEST))
    except ValidationError as error:
        raise StudyError(f"{FILE_NAME}: {sentence(error, StudyFile, tables)}") from None
    given = tuple(key for key, _ in flat_keys(tables.get("control", {})))
    study = Study(root.resolve(), file, version, given)
    _require_known_names(file)
    slices_for(file.slices, study.channels)
    selection_for(file.selection, study.channels)
    if file.ranker.channel is not None:
        ranker_for(file.ranker, None, study.channels)
    require_numbers(file)
    unused = why_unused(file.control, given, file.windows.horizon, study.channels)
    if unused is not None:
        raise StudyError(f"{FILE_NAME}: control.{unused[0]} does nothing here: {unused[1]}. Leave it out.")
    require_sound("control", study.file_setup)
    for lever in file.levers:
        require_sound(f"levers.{lever}", study.changed(lever, study.file_setup))
    for lever in file.study.stacked:
        if lever not in file.levers:
            raise unknown_name("lever", lever, file.levers, "study.stacked")
    if file.study.stacked:
        require_sound("the control with study.stacked", study.base)
    if file.tree is not None:
        require_known_names(file.tree, file.levers)
    for name, rule in file.rules.items():
        write_out(name, rule, file.study.primary)
    return study


def require_sound(who: str, setup: Setup) -> None:
    """Raises for a setup that could not be trained whatever the data are. `who` is "control" or "levers.NAME"."""
    recipe, inputs = setup.recipe, setup.inputs
    locate("objectives", recipe.objective.kind, who)
    locate("decoders", recipe.decoder.kind, who)
    if recipe.decoder.kind == SLOT_QUERIES and recipe.objective.kind == "flow":
        raise StudyError(
            f"{who} has decoder.kind {SLOT_QUERIES!r}, which sees neither noise nor flow time: flow matching cannot "
            f"train it. Set objective.kind = 'regression'."
        )
    if recipe.train.steps == 1 and recipe.train.warmup_from_zero and recipe.train.warmup_steps:
        raise StudyError(
            f"{who} has train.steps 1, and a warm-up from zero gives the first step a learning rate of 0: nothing "
            f"would be trained. Give more steps, or train.warmup_steps = 0."
        )
    horizon, slots = recipe.decoder.horizon, inputs.windows.horizon
    if horizon is not None and horizon > slots:
        raise StudyError(
            f"{who} has decoder.horizon {horizon}, and a chunk has windows.horizon {slots} slots only. "
            f"Give {slots} or less."
        )
    if recipe.train.history_dropout and "no-history" not in inputs.cache.variants:
        raise StudyError(
            f"{who} has train.history_dropout, which needs the variant 'no-history'. Add it to cache.variants."
        )
    encoder = inputs.encoder
    if recipe.decoder.image_tokens and isinstance(encoder, DriveViTSettings) and not encoder.image_grid:
        raise StudyError(
            f"{who} has decoder.image_tokens, and the encoder makes none. Set encoder.image_grid: 4 makes 16 tokens."
        )
    if recipe.decoder.image_tokens and isinstance(encoder, HuggingFaceSettings) and not encoder.makes_image_tokens:
        raise StudyError(
            f"{who} has decoder.image_tokens, and an encoder with pool {encoder.pool!r} makes none. "
            f"Set encoder.pool = 'patches', and encoder.image_grid = 4 for 16 tokens."
        )
    channels = source_channels(inputs.drives)
    if channels is not None:
        _require_channels(who, recipe, channels)


def _require_channels(who: str, recipe: Recipe, raw_channels: tuple[str, ...]) -> None:
    """Raises for a recipe that asks for channels which the drives do not have."""
    if recipe.action_space.merge and not set(MERGED_FROM) <= set(raw_channels):
        raise StudyError(
            f"{who} has action_space.merge, which needs the channels {' and '.join(MERGED_FROM)}, and the drives "
            f"have {', '.join(raw_channels)}. Set action_space.merge = false."
        )
    channels = model_channels(recipe.action_space, raw_channels)
    for name in recipe.objective.lds.channel_alpha:
        if name not in channels:
            raise unknown_name("model channel", name, channels, f"{who}.objective.lds.channel_alpha")


def _require_known_names(file: StudyFile) -> None:
    locate("encoders", file.encoder.kind)
    if file.study.rule not in file.rules:
        raise unknown_name("rule", file.study.rule, file.rules, "study.rule")
    if CONTROL in file.levers:
        raise StudyError(f"{FILE_NAME}: a lever cannot be named {CONTROL!r}; that is the reference recipe. Rename it.")
