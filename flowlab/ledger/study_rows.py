"""What a line of the study's journal becomes: caches, rules, amendments, bases, stacks and verdicts as rows."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from flowlab.core.digest import base_id, canonical_json, digest_json
from flowlab.core.types import split_slice
from flowlab.ledger.fields import BadLine, Fields, as_whole
from flowlab.ledger.rows import Maker, Row, event_row, only
from flowlab.study.problems import sentence
from flowlab.study.rule import Rule


def _cache(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    row = only(place, "time_us") | {name: line.text(name) for name in ("cache_id", "val_drives_digest")}
    row |= {name: line.whole(name) for name in ("num_train", "num_val")}
    yield "caches", row | {"identity_json": canonical_json(line.table("identity"))}


def _seal(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    document = line.table("rule")
    rule, digest = Fields(document), {"rule_digest": line.text("digest")}
    if digest_json(document) != digest["rule_digest"]:
        raise BadLine(f"the rule's digest is {digest_json(document)}, the seal says {digest['rule_digest']}")
    try:
        Rule.model_validate_json(canonical_json(document))
    except ValidationError as error:
        raise BadLine(f"this is no rule: {sentence(error, Rule, document)}") from None
    yield (
        "rules",
        digest
        | {"name": rule.text("name"), "rule_json": canonical_json(document), "time_us": place["time_us"]}
        | _number_of_a_run(Fields(rule.table("primary")))
        | _evaluation(rule)
        | {"simulated_json": canonical_json(line.table("simulated")) if line.has("simulated") else None},
    )
    for position, item in enumerate(rule.items("stages"), start=1):
        yield "rule_stages", digest | {"position": position} | _stage(Fields(item))
    for position, item in enumerate(rule.items("guardrails"), start=1):
        guard = Fields(item)
        row = digest | {"position": position} | _number_of_a_run(guard) | {"margin": guard.number("margin")}
        yield "rule_guardrails", row
    for role in ("panel", "judged"):
        for position, seed in enumerate(rule.items(f"{role}_seeds"), start=1):
            yield "rule_seeds", digest | {"role": role, "position": position, "seed": as_whole(seed, "seed")}


def _amend(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    yield from _seal(line, place)
    names = {"rule_digest": line.text("digest"), "amended_digest": line.text("amended_digest")}
    yield "amendments", names | {"reason": line.text("reason"), "time_us": place["time_us"]}


def _base(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    row: Row = {name: line.text(name) for name in ("control_digest", "cache_id", "evaluation_id")}
    row |= {"stacked": line.texts("stacked"), "recipe_json": canonical_json(line.table("recipe"))}
    row |= {"thresholds_json": canonical_json(line.table("thresholds")) if line.has("thresholds") else None}
    yield "bases", row | {"base_id": base_id(row["control_digest"], row["evaluation_id"])} | only(place, "time_us")


def _stack(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    names = ("lever", "recipe_digest", "rule_digest", "control_digest", "cache_id", "evaluation_id")
    row: Row = {name: line.text(name) for name in (*names, "new_control_digest")}
    row |= {"changes_json": canonical_json(line.table("changes")), "effect": line.number("effect")}
    row |= {"base_id": base_id(row["control_digest"], row["evaluation_id"])}
    row |= {"new_base_id": base_id(row["new_control_digest"], row["evaluation_id"])}
    yield "stacks", row | {"replicate_seed": line.whole("replicate_seed")} | only(place, "time_us")


def _verdicts(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    names = ("rule_digest", "control_digest", "cache_id", "evaluation_id", "lever", "recipe_digest")
    for item in line.items("rows"):
        verdict = Fields(item)
        row: Row = {name: verdict.text(name) for name in (*names, "decision", "reason")}
        row |= {"effect": verdict.number("effect") if verdict.has("effect") else None}
        row |= {"base_id": base_id(row["control_digest"], row["evaluation_id"])}
        yield "recorded_verdicts", row | only(place, "time_us")


def _encoder(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    row: Row = {name: line.text(name) for name in ("encoder_key", "encoder_digest", "file_name")}
    row |= {"train_drives": line.texts("train_drives"), "settings_json": canonical_json(line.table("settings"))}
    yield "encoders", row | only(place, "time_us")


def _planned(line: Fields, place: Row) -> Iterator[tuple[str, Row]]:
    for run_id in line.texts("run_ids"):
        yield "events", event_row(place, "planned", run_id)


STUDY_KINDS: dict[str, Maker] = {
    "cache": _cache,
    "seal": _seal,
    "amend": _amend,
    "base": _base,
    "encoder": _encoder,
    "stack": _stack,
    "verdicts": _verdicts,
    "planned": _planned,
}


def _stage(stage: Fields) -> Row:
    """A stage as a row. Rules that were sealed before there were first seeds and bar units began at the first seed."""
    return (
        {name: stage.text(name) for name in ("name", "statistic")}
        | {"num_seeds": stage.whole("num_seeds"), "bar": stage.number("bar")}
        | {"first_seed": stage.whole("first_seed") if stage.has("first_seed") else 1}
        | {"bar_unit": stage.text("bar_unit") if stage.has("bar_unit") else "metric"}
    )


def _number_of_a_run(key: Fields) -> Row:
    """Which number of a run a rule looks at, and which way is better: lower where nothing is said."""
    names: dict[str, Any] = {name: key.text(name) for name in ("metric", "channel", "slice", "readout")}
    if key.has("drive"):
        names |= {"drive": key.text("drive")}
    else:
        names |= dict(zip(("slice", "drive"), split_slice(names["slice"]), strict=True))
    return names | {"direction": key.text("direction") if key.has("direction") else "lower"}


def _evaluation(rule: Fields) -> Row:
    """The evaluation identity that the rule judges; NULL, any, for rules that were sealed before they named one."""
    if not rule.has("evaluation"):
        return {"evaluation_id": None, "evaluation_json": None}
    evaluation = rule.table("evaluation")
    return {"evaluation_id": digest_json(evaluation), "evaluation_json": canonical_json(evaluation)}
