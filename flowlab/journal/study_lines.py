"""The lines of the study's journal, one model a kind: what is written, what is read, and what either may hold."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from flowlab.core.digest import canonical_json, digest_json
from flowlab.journal.said import JournalLine, Said, object_of, objects_of
from flowlab.journal.values import (
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
    """A hurdle. Rules of earlier versions have neither first seeds nor bar units."""

    name: Text
    statistic: Text
    num_seeds: Whole
    bar: Number
    first_seed: WholeOrNone = None
    bar_unit: TextOrNone = None


Seeds = Annotated[list[int], checked(lambda value, name: [as_whole(seed, "seed") for seed in as_list(value, name)])]


class RuleHead(Said):
    """What a rule judges. Rules of earlier versions name no evaluation: they judge any."""

    name: Text
    primary: Annotated[Measured, object_of(Measured)]
    evaluation: ObjectOrNone = None


class RuleBody(Said):
    """How a rule judges."""

    stages: Annotated[list[Stage], objects_of(Stage)]
    guardrails: Annotated[list[Guarded], objects_of(Guarded)]
    panel_seeds: Seeds
    judged_seeds: Seeds


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
    """A rule that judges from now on, and the error rates that were shown before."""

    kind: Literal["seal"] = "seal"
    simulated: TableOrNone = None


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
    Cache | Seal | Amend | Base | Encoder | Stack | Verdicts | Planned | Ingested, Field(discriminator="kind")
]
