"""The lines of the study's journal, one model a kind: what is written, what is read, and what either may hold."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from flowlab.core.digest import canonical_json, digest_json
from flowlab.journal.loop_lines import Note, Phase, Tag, Tree
from flowlab.journal.said import JournalLine, Said, object_of, objects_of
from flowlab.journal.values import (
    Matrix,
    Number,
    NumberOrNone,
    Object,
    ObjectOrNone,
    Table,
    TableOrNone,
    Text,
    TextOrNone,
    Texts,
    Whole,
    WholeOrNone,
    as_list,
    as_whole,
    checked,
    fault,
)
from flowlab.study.problems import sentence
from flowlab.study.rule import Rule


class Cache(JournalLine):
    """A cache that runs train from. Writing the same one again is harmless."""

    checked_last = ("num_train", "num_val", "identity")

    kind: Literal["cache"] = "cache"
    cache_id: Text
    identity: Table
    num_train: Whole
    num_val: Whole
    val_drives_digest: Text


class Measured(Said):
    """Which number of a run a rule looks at. Old rules have the drive in the slice, and no direction."""

    metric: Text
    channel: Text
    slice: Text
    readout: Text
    drive: TextOrNone = None
    direction: TextOrNone = None


class Guarded(Measured):
    """A number that may be worse than the panel's by `margin` at most."""

    margin: Number


class Stage(Said):
    """A hurdle. Rules of earlier versions have neither first seeds nor bar units, nor a bar to stack at once."""

    name: Text
    statistic: Text
    num_seeds: Whole
    bar: Number
    first_seed: WholeOrNone = None
    bar_unit: TextOrNone = None
    stack_above: NumberOrNone = None


def _seeds(value: Any, name: str) -> list[int]:
    return [as_whole(seed, "seed") for seed in as_list(value, name)]


Seeds = Annotated[list[int], checked(_seeds)]
SeedsOrNone = Annotated[list[int] | None, checked(_seeds, or_none=True)]


class RuleHead(Said):
    """What a rule judges. Rules of earlier versions name no evaluation: they judge any."""

    name: Text
    primary: Annotated[Measured, object_of(Measured)]
    evaluation: ObjectOrNone = None
    rho: NumberOrNone = None
    sigma: ObjectOrNone = None
    screen: ObjectOrNone = None


class RuleBody(Said):
    """How a rule judges."""

    stages: Annotated[list[Stage], objects_of(Stage)]
    guardrails: Annotated[list[Guarded], objects_of(Guarded)]
    panel_seeds: Seeds
    judged_seeds: Seeds
    calibration_seeds: SeedsOrNone = None


class Calibrate(JournalLine):
    """A rule's seeds, statistics and guardrails, before its panel is seen: `Rule.design()` and its digest."""

    kind: Literal["calibrate"] = "calibrate"
    digest: Text
    design: Object

    @field_validator("design")
    @classmethod
    def _is_the_design_of_its_digest(cls, design: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "digest" in info.data and digest_json(design) != info.data["digest"]:
            raise fault(f"the design's digest is {digest_json(design)}, the line says {info.data['digest']}")
        return design


class Sealing(JournalLine):
    """A rule as it was written out and hashed: `Rule.to_json()` and its digest."""

    checked_last = ("digest", "simulated", "amended_digest", "reason")

    digest: Text
    rule: Object

    @field_validator("rule")
    @classmethod
    def _is_the_rule_of_its_digest(cls, rule: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "digest" not in info.data:  # which is the fault that is told
            return rule
        if digest_json(rule) != info.data["digest"]:
            raise fault(f"the rule's digest is {digest_json(rule)}, the seal says {info.data['digest']}")
        try:
            Rule.model_validate_json(canonical_json(rule))
        except ValidationError as error:
            raise fault(f"this is no rule: {sentence(error, Rule, rule)}") from None
        RuleHead.read(rule)
        return rule

    @model_validator(mode="after")
    def _has_a_body(self) -> Self:
        RuleBody.read(self.rule)
        return self

    @property
    def head(self) -> RuleHead:
        return RuleHead.read(self.rule)

    @property
    def body(self) -> RuleBody:
        return RuleBody.read(self.rule)


class Seal(Sealing):
    """A rule that judges from now on, and the error rates that were shown before.

    `calibration` is the digest of its design, if that was registered before the panel was seen.
    """

    left_out = ("calibration",)

    kind: Literal["seal"] = "seal"
    simulated: TableOrNone = None
    calibration: TextOrNone = None

    @model_validator(mode="after")
    def _is_the_rule_of_its_design(self) -> Self:
        if self.calibration is not None:
            own = Rule.model_validate_json(canonical_json(self.rule)).design_digest()
            if own != self.calibration:
                raise fault(f"the rule's design is {own}, the seal says {self.calibration}")
        return self


class Amend(Sealing):
    """A rule that takes the place of the sealed rule `amended_digest` from now on."""

    kind: Literal["amend"] = "amend"
    amended_digest: Text
    reason: Text
    simulated: TableOrNone = None

    @classmethod
    def read(cls, fields: Any, run_id: str | None = None) -> Self:
        """What `fields` say. Raises BadLine; what a seal would be refused for comes first."""
        Seal.read(fields | {"kind": "seal"})
        return super().read(fields, run_id)


class Base(JournalLine):
    """What levers are compared with from now on: the control recipe, with the levers stacked into it in order.

    `thresholds` are the maneuver thresholds that every run with this evaluation is scored by.
    """

    left_out = ("thresholds",)

    kind: Literal["base"] = "base"
    control_digest: Text
    cache_id: Text
    evaluation_id: Text
    stacked: Texts
    recipe: Table
    thresholds: TableOrNone = None


class Encoder(JournalLine):
    """The frozen encoder for these settings from now on, until another line of the same key."""

    kind: Literal["encoder"] = "encoder"
    encoder_key: Text
    encoder_digest: Text
    file_name: Text
    train_drives: Texts
    settings: Table


class Stack(JournalLine):
    """A lever that goes into the base, because the rule said so. The new base owes one run at `replicate_seed`."""

    checked_last = ("changes", "effect", "replicate_seed")

    kind: Literal["stack"] = "stack"
    lever: Text
    recipe_digest: Text
    rule_digest: Text
    control_digest: Text
    cache_id: Text
    evaluation_id: Text
    changes: Table
    new_control_digest: Text
    replicate_seed: Whole
    effect: Number


class Screened(Said):
    """A lever of a screen, and the recipe that it makes alone."""

    lever: Text
    recipe_digest: Text


class ScreenRow(Said):
    """A run of a screen: the levers that are on in it together. `name` is the run's lever."""

    name: Text
    seed: Whole
    recipe_digest: Text
    levers: Texts


class Screen(JournalLine):
    """A two-level design, whole, before any of it runs. A lever's effect is `weights` @ the rows' values."""

    checked_last = ("levers", "rows", "weights", "excluded")

    kind: Literal["screen"] = "screen"
    screen: Text
    rule_digest: Text
    control_digest: Text
    cache_id: Text
    evaluation_id: Text
    sigma: Number
    sigma_df: Whole
    bar: Number
    guard: Number
    levers: Annotated[list[Screened], objects_of(Screened)]
    rows: Annotated[list[ScreenRow], objects_of(ScreenRow)]
    weights: Matrix  # one list a lever, of a number a row
    excluded: Table  # by lever, why it cannot be screened

    @model_validator(mode="after")
    def _has_a_weight_for_each(self) -> Self:
        require_shape(self.weights, len(self.levers), len(self.rows))
        return self

    def told(self) -> dict[str, Any]:
        return super().told() | {name: [of.told() for of in getattr(self, name)] for name in ("levers", "rows")}


class ScreenWeights(JournalLine):
    """The weights of a screen solved anew, without the rows that crashed. A lever of no list can no longer be told."""

    kind: Literal["weights"] = "weights"
    screen: Text
    solution: Whole
    levers: Texts
    rows: Texts
    weights: Matrix

    @model_validator(mode="after")
    def _has_a_weight_for_each(self) -> Self:
        require_shape(self.weights, len(self.levers), len(self.rows))
        return self


def require_shape(weights: list[list[float]], num_levers: int, num_rows: int) -> None:
    """Raises the fault of a line whose weights are not one number for each lever and row."""
    if len(weights) != num_levers or any(len(of) != num_rows for of in weights):
        raise fault(f"weights are not {num_levers} lists of {num_rows} numbers")


class Decided(Said):
    """One decision."""

    checked_last = ("effect",)

    rule_digest: Text
    control_digest: Text
    cache_id: Text
    evaluation_id: Text
    lever: Text
    recipe_digest: Text
    decision: Text
    effect: NumberOrNone = None
    reason: Text


class Verdicts(JournalLine):
    """Decisions as the views gave them at this moment."""

    kind: Literal["verdicts"] = "verdicts"
    rows: Annotated[list[Decided], objects_of(Decided)]

    def told(self) -> dict[str, Any]:
        return super().told() | {"rows": [row.told() for row in self.rows]}


class Planned(JournalLine):
    """Runs that are about to be trained, so that the record shows one that was thrown away and trained again."""

    kind: Literal["planned"] = "planned"
    run_ids: Texts


class Ingested(JournalLine):
    """The part of a run's journal that the ledger reads next. Only flowlab.ledger.ingest says so."""

    kind: Literal["ingested"] = "ingested"
    journal: Text
    from_offset: Whole
    to_offset: Whole
    digest: Text


StudyLine = Annotated[
    Cache
    | Calibrate
    | Seal
    | Amend
    | Base
    | Encoder
    | Stack
    | Screen
    | ScreenWeights
    | Verdicts
    | Planned
    | Tree
    | Phase
    | Note
    | Tag
    | Ingested,
    Field(discriminator="kind"),
]
