"""The tables of experiments.toml other than the recipe and the slices: drives, split, windows, encoder, cache, ..."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from flowlab.core.plugins import locate
from flowlab.core.types import join_slice
from flowlab.core.vocabulary import CHANNELS, DEFAULT_CHANNEL
from flowlab.study.huggingface import HUGGING_FACE, HuggingFaceSettings
from flowlab.study.lerobot import LeRobotDrives
from flowlab.study.problems import require_each_once
from flowlab.study.ranker import RankerSettings
from flowlab.study.recipe import LARGEST_SEED, ChannelName, Frozen, Recipe
from flowlab.study.selection import SelectionSettings
from flowlab.study.slices import SliceName, SliceSettings
from flowlab.study.split import SplitSettings
from flowlab.study.stores import StoreSettings
from flowlab.study.temporal import TemporalPart
from flowlab.study.tree import TreeSettings

KebabName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([.+-][a-z0-9]+)*$", max_length=64)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Text = Annotated[str, Field(min_length=1)]


class CarRacingDrives(Frozen):
    """Drives recorded from Gymnasium's CarRacing-v3 by a scripted driver; kept in caches/drives."""

    source: Literal["carracing"]
    count: int = Field(12, ge=1, le=10**5)
    seconds: float = Field(60.0, gt=0, le=86_400)
    hz: float = Field(10.0, gt=0, le=50)
    seed: int = Field(0, ge=0, le=LARGEST_SEED)


MAX_FAULT_SHARE = 0.02
"""The share of a drive's rows that may be left out for one reason before the drive is refused."""


class UdacityDrives(Frozen):
    """Folders written by the recorder of the Udacity simulator, found below `roots` by their driving_log.csv.

    `root = "folder"` is the same as roots = ["folder"]. A drive is refused of which more than `max_fault_share` of the
    rows, and more than one row, cannot be used for one reason.
    """

    source: Literal["udacity"]
    roots: tuple[Text, ...] = Field(strict=False, min_length=1)
    max_fault_share: float = Field(MAX_FAULT_SHARE, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _one_root(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "root" not in value:
            return value
        if "roots" in value:
            raise ValueError("give either root (one folder) or roots (a list), and not both")
        if not isinstance(value["root"], str) or not value["root"]:
            raise ValueError(f"root must be a text in quotes, got {value['root']!r}")
        return {name: given for name, given in value.items() if name != "root"} | {"roots": [value["root"]]}

    @model_validator(mode="after")
    def _each_root_once(self) -> Self:
        require_each_once("roots", self.roots)
        return self


class SyntheticDrives(Frozen):
    """Drives of a known action distribution: two modes of the last channel at `mean` -/+ `gap`/2, the upper one with
    `mass`.
    """

    source: Literal["synthetic"]
    count: int = Field(6, ge=1, le=10**5)
    frames: int = Field(200, ge=1, le=10**7)
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    mass: float = Field(0.7, ge=0, le=1)
    gap: float = Field(1.0, ge=0, le=2)
    mean: float = Field(0.0, ge=-1, le=1)
    channels: tuple[ChannelName, ...] = Field(CHANNELS, strict=False, min_length=1)

    @model_validator(mode="after")
    def _channels_once(self) -> Self:
        require_each_once("channels", self.channels)
        return self


class PluginDrives(Frozen):
    """A source from an entry point `flowlab.sources` or a `module:attr`, with its own options.

    `max_fault_share` as for udacity.
    """

    source: str
    max_fault_share: float = Field(MAX_FAULT_SHARE, ge=0, le=1)
    options: dict[str, Any] = {}


DrivesSettings = CarRacingDrives | UdacityDrives | LeRobotDrives | SyntheticDrives | PluginDrives
DRIVES_BY_SOURCE: dict[str, type[DrivesSettings]] = {
    "carracing": CarRacingDrives,
    "udacity": UdacityDrives,
    "lerobot": LeRobotDrives,
    "synthetic": SyntheticDrives,
}


def drives_model(table: dict[str, Any]) -> type[DrivesSettings]:
    """The model of the table [drives], by its source. Raises UnknownNameError for a source that is nowhere."""
    source = table.get("source")
    if not isinstance(source, str):
        raise ValueError(f"source must be a text in quotes, such as {', '.join(map(repr, DRIVES_BY_SOURCE))}")
    locate("sources", source)
    return DRIVES_BY_SOURCE.get(source, PluginDrives)


def source_channels(settings: DrivesSettings) -> tuple[str, ...] | None:
    """The raw channels of those drives, or None for a source that says so only once it is opened."""
    if isinstance(settings, SyntheticDrives):
        return settings.channels
    if isinstance(settings, LeRobotDrives):
        return None if settings.channels is None else tuple(name for name, _ in settings.channels)
    return None if isinstance(settings, PluginDrives) else CHANNELS


MOST_WINDOW_FRAMES = 4096


class WindowSettings(Frozen):
    """History of `history` frames up to now, then a chunk of `horizon` slots; no step inside exceeds `max_gap_s`.

    A file may give `history_s` and `horizon_s` instead, in seconds.
    """

    history: int = Field(6, ge=1, le=MOST_WINDOW_FRAMES)
    horizon: int = Field(6, ge=1, le=MOST_WINDOW_FRAMES)
    max_gap_s: float = Field(0.5, gt=0, le=3600)


OWN_ENCODER: Literal["drive-vit"] = "drive-vit"


MOST_PATCHES = 65_536
"""Of one image, each of which attends to all others."""


class DriveViTSettings(TemporalPart):
    """flowlab's own compact encoder, and how it is pretrained on the train drives before it is frozen.

    `image_grid` n adds n x n image tokens to the condition: the present frame's patch tokens, averaged over a grid.
    """

    kind: Literal["drive-vit"] = OWN_ENCODER
    width: int = Field(384, ge=8, le=16384)
    image_height: int = Field(64, ge=8, le=8192)
    image_width: int = Field(64, ge=8, le=8192)
    patch: int = Field(8, ge=1, le=8192)
    image_width_tokens: int = Field(128, ge=8, le=16384)
    image_layers: int = Field(4, ge=1, le=512)
    image_grid: int = Field(0, ge=0, le=256)
    image_steps: int = Field(2000, ge=1, le=10**9)
    image_batch: int = Field(64, ge=1, le=10**6)

    @model_validator(mode="after")
    def _sizes_divide(self) -> Self:
        if self.image_height % self.patch or self.image_width % self.patch:
            raise ValueError(f"patch {self.patch} must divide {self.image_height} x {self.image_width}")
        num_patches = self.image_height * self.image_width // self.patch**2
        if num_patches > MOST_PATCHES:
            raise ValueError(f"{num_patches} patches of {self.patch} pixels are too many: raise patch ({MOST_PATCHES})")
        if self.image_grid > min(self.image_height, self.image_width) // self.patch:
            raise ValueError(f"image_grid {self.image_grid} is finer than the patches of {self.patch} pixels")
        if self.image_grid and self.image_width_tokens > self.width:
            raise ValueError(
                f"image_width_tokens {self.image_width_tokens} must not exceed the width {self.width} of a condition "
                f"token, which an image token becomes"
            )
        for name in ("width", "image_width_tokens"):
            if getattr(self, name) % (2 * self.heads):
                raise ValueError(f"{name} {getattr(self, name)} must be a multiple of twice the heads ({self.heads})")
        return self


class PluginEncoder(Frozen):
    """A frozen encoder from an entry point `flowlab.encoders` or a `module:attr`, with its own options."""

    kind: str
    options: dict[str, Any] = {}


EncoderSettings = DriveViTSettings | HuggingFaceSettings | PluginEncoder
ENCODERS_BY_KIND: dict[str, type[EncoderSettings]] = {OWN_ENCODER: DriveViTSettings, HUGGING_FACE: HuggingFaceSettings}


def encoder_model(table: dict[str, Any]) -> type[EncoderSettings]:
    """The model of the table [encoder], by its kind. Raises UnknownNameError for a kind that is nowhere."""
    kind = table.get("kind", OWN_ENCODER)
    if not isinstance(kind, str):
        raise ValueError(f'kind must be a text in quotes, such as "{OWN_ENCODER}"')
    locate("encoders", kind)
    return ENCODERS_BY_KIND.get(kind, PluginEncoder)


class CacheSettings(Frozen):
    """Which variants of the condition are computed."""

    variants: tuple[Literal["normal", "no-history"], ...] = Field(("normal", "no-history"), strict=False)

    @model_validator(mode="after")
    def _normal_is_there(self) -> Self:
        if "normal" not in self.variants:
            raise ValueError("variants must hold 'normal', the one that runs train on")
        require_each_once("variants", self.variants)
        return self


class Inputs(Frozen):
    """What a cache is computed from."""

    drives: DrivesSettings
    split: SplitSettings
    windows: WindowSettings = WindowSettings()
    encoder: EncoderSettings = DriveViTSettings()
    cache: CacheSettings = CacheSettings()

    @field_validator("drives", mode="before")
    @classmethod
    def _drives_by_source(cls, value: Any) -> Any:
        return _by_word(value, drives_model, PluginDrives)

    @field_validator("encoder", mode="before")
    @classmethod
    def _encoder_by_kind(cls, value: Any) -> Any:
        return _by_word(value, encoder_model, PluginEncoder)

    def to_json(self) -> dict[str, Any]:
        """All five tables as plain JSON, defaults included."""
        return self.model_dump(mode="json", include=set(Inputs.model_fields))


def _by_word(value: Any, model_of: Any, other: type[Frozen]) -> Any:
    """The table `value` as the model that one of its words names."""
    if isinstance(value, Frozen):
        return value
    return (model_of(value) if isinstance(value, dict) else other).model_validate(value)


class LeverSettings(Frozen):
    """One named change to the control. An empty `set` is a placebo: it must come out as exactly the control.

    `stats`: what is fitted on a train split (knots, densities) is the control's for every lever, so that only what the
    lever names differs; "own" fits it on the lever's train split.
    """

    set: dict[str, Any]
    stats: Literal["control", "own"] = "control"
    hypothesis: str = ""
    tags: tuple[str, ...] = Field((), strict=False)


class MetricKey(Frozen):
    """Which number of a run: metric, channel, slice, readout, on one drive alone or on all; which way it is better."""

    metric: str = "l1"
    channel: str = DEFAULT_CHANNEL
    slice: str
    drive: Text | None = None
    readout: str = "meank"
    direction: Literal["lower", "higher"] = "lower"

    def shown(self) -> str:
        """The number's name for people: "l1 steering spike_frame meank"."""
        where = join_slice(self.slice, self.drive or "")
        return " ".join(part for part in (self.metric, self.channel, where, self.readout) if part)


Bars = Literal["metric", "panel-sd", "sigma"]
"""What a bar is in: the metric's own units, standard deviations of the panel, or of the sigma sealed with the rule."""


class StageSettings(Frozen):
    """One hurdle of a rule. The improvement (above 0 is better) over `num_seeds` judged seeds, `first_seed` being 1
    for the first, must exceed `bar`; above `stack_above` the lever stacks at once.

    `paired`: mean of (control - lever) at the same seeds. `panel`: panel mean - mean of the lever. `adjusted`: as
    `panel`, less the share `rho` of the control's luck at the same seeds, which the rule has sealed.
    """

    name: KebabName
    statistic: Literal["paired", "panel", "adjusted"]
    num_seeds: int = Field(ge=1, le=1000)
    bar: float
    first_seed: int = Field(1, ge=1, le=1000)
    bar_unit: Bars = "metric"
    stack_above: float | None = None

    @property
    def last_seed(self) -> int:
        """The position among the judged seeds of the last one that the stage looks at; 1 is the first."""
        return self.first_seed + self.num_seeds - 1

    @property
    def pairs(self) -> bool:
        """Whether the stage looks at the control at the lever's own seeds."""
        return self.statistic != "panel"


class ScreenBar(Frozen):
    """What a lever's effect in a screen must exceed to be confirmed alone.

    `bar`, and `guard` times Lenth's pseudo standard error of all contrasts, which grows where levers interact.
    """

    bar: float = 0.010
    guard: float = Field(2.0, ge=0, le=10)
    bar_unit: Literal["metric", "sigma"] = "metric"


class Guardrail(MetricKey):
    """A non-inferiority test: the lever's mean may be worse than the panel's by `margin` at most."""

    margin: float = Field(gt=0)


class RuleSettings(Frozen):
    """A rule as it stands in experiments.toml: a preset, or stages of one's own.

    `bars = "sigma"`: a preset's bars in units of sigma, which the study measures before it seals them; on the controls
    of the panel and of `calibration_seeds`. `rho`: for stages of the statistic `adjusted`, with where it was measured.
    """

    preset: Literal["climb", "screen", "two-sigma", "paired", "panel", "fresh"] | None = None
    bars: Literal["metric", "sigma"] = "metric"
    stages: tuple[StageSettings, ...] | None = Field(None, strict=False, min_length=1)
    screen: ScreenBar | None = None
    panel_seeds: tuple[Seed, ...] = Field(strict=False, min_length=2)
    judged_seeds: tuple[Seed, ...] = Field(strict=False, min_length=1)
    calibration_seeds: tuple[Seed, ...] = Field((), strict=False)
    rho: float | None = Field(None, ge=0, le=1)
    rho_from: Text | None = None
    guardrails: tuple[Guardrail, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.preset is None) == (self.stages is None):
            raise ValueError("give either a preset or stages, and not both")
        if self.preset is None and self.bars != "metric":
            raise ValueError('bars is for presets; stages of your own say bar_unit = "sigma" each')
        if (self.rho is None) != (self.rho_from is None):
            raise ValueError("give rho with rho_from: where it was measured, such as an earlier campaign")
        require_each_once("panel_seeds", self.panel_seeds)
        require_each_once("judged_seeds", self.judged_seeds)
        require_each_once("calibration_seeds", (*self.panel_seeds, *self.calibration_seeds))
        require_each_once("stages", [stage.name for stage in self.stages or ()])
        require_each_once("guardrails", [guardrail.shown() for guardrail in self.guardrails])
        return self


class StudyTable(Frozen):
    """The study's name, its primary metric, the rule that judges it, and the levers that the base has taken in."""

    name: KebabName
    rule: str
    primary: MetricKey
    stacked: tuple[KebabName, ...] = Field((), strict=False)  # written by `flowlab stack`, in the order of stacking

    @model_validator(mode="after")
    def _stacked_once(self) -> Self:
        require_each_once("stacked", self.stacked)
        return self


class StudyFile(Inputs):
    """experiments.toml, whole: the inputs of its control's cache, and all else."""

    study: StudyTable
    slices: dict[SliceName, SliceSettings] | None = None
    selection: SelectionSettings | None = None
    ranker: RankerSettings = RankerSettings()
    control: Recipe = Recipe()
    levers: dict[KebabName, LeverSettings] = {}
    rules: dict[KebabName, RuleSettings]
    tree: TreeSettings | None = None
    stores: StoreSettings = StoreSettings()

    @property
    def inputs(self) -> Inputs:
        """What the control's cache is computed from, before any lever is stacked."""
        return Inputs(**{name: getattr(self, name) for name in Inputs.model_fields})
