"""What a line of the study's journal becomes: caches, rules, amendments, bases, stacks and verdicts as rows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flowlab.core.digest import canonical_json, digest_json
from flowlab.core.types import split_slice
from flowlab.ledger.rows import Maker, Row, event_row, taken

if TYPE_CHECKING:
    from flowlab.journal.loop_lines import Note, Phase, Tag, Tree
    from flowlab.journal.study_lines import (
        Amend,
        Base,
        Cache,
        Calibrate,
        Encoder,
        Measured,
        Planned,
        RuleHead,
        Screen,
        ScreenWeights,
        Seal,
        Stack,
        Stage,
        Verdicts,
    )


def _cache(line: "Cache", _: Row) -> Iterator[tuple[str, Row]]:
    row = taken(line, "time_us", "cache_id", "val_drives_digest", "num_train", "num_val")
    yield "caches", row | {"identity_json": canonical_json(line.identity)}


def _calibrate(line: "Calibrate", _: Row) -> Iterator[tuple[str, Row]]:
    row = {"design_digest": line.digest, "design_json": canonical_json(line.design)}
    yield "calibrations", row | {"time_us": line.time_us}


def _seal(line: "Seal | Amend", _: Row) -> Iterator[tuple[str, Row]]:
    digest, head, body = {"rule_digest": line.digest}, line.head, line.body
    row = digest | {"name": head.name, "rule_json": canonical_json(line.rule), "time_us": line.time_us}
    row |= _number_of_a_run(head.primary) | _evaluation(head)
    yield "rules", row | {"simulated_json": None if line.simulated is None else canonical_json(line.simulated)}
    terms = _terms(head) | {"design_digest": getattr(line, "calibration", None)}
    if any(value is not None for value in terms.values()):
        yield "rule_terms", digest | terms | {"time_us": line.time_us}
    for position, stage in enumerate(body.stages, start=1):
        yield "rule_stages", digest | {"position": position} | _stage(stage)
    for position, guard in enumerate(body.guardrails, start=1):
        yield "rule_guardrails", digest | {"position": position} | _number_of_a_run(guard) | taken(guard, "margin")
    by_role = {"panel": body.panel_seeds, "judged": body.judged_seeds, "calibration": body.calibration_seeds or []}
    for role, seeds in by_role.items():
        for position, seed in enumerate(seeds, start=1):
            yield "rule_seeds", digest | {"role": role, "position": position, "seed": seed}


def _amend(line: "Amend", place: Row) -> Iterator[tuple[str, Row]]:
    yield from _seal(line, place)
    yield "amendments", {"rule_digest": line.digest} | taken(line, "amended_digest", "reason", "time_us")


def _base(line: "Base", _: Row) -> Iterator[tuple[str, Row]]:
    row = taken(line, "control_digest", "cache_id", "evaluation_id", "stacked")
    row |= {"recipe_json": canonical_json(line.recipe)}
    row |= {"thresholds_json": None if line.thresholds is None else canonical_json(line.thresholds)}
    yield "bases", row | {"time_us": line.time_us}


def _stack(line: "Stack", _: Row) -> Iterator[tuple[str, Row]]:
    row = taken(line, "lever", "recipe_digest", "rule_digest", "control_digest", "cache_id", "evaluation_id")
    row |= taken(line, "new_control_digest") | {"changes_json": canonical_json(line.changes)} | taken(line, "effect")
    yield "stacks", row | taken(line, "replicate_seed", "time_us")


def _screen(line: "Screen", _: Row) -> Iterator[tuple[str, Row]]:
    of = {"screen": line.screen, "time_us": line.time_us}
    row = taken(line, "rule_digest", "control_digest", "cache_id", "evaluation_id", "sigma", "sigma_df", "bar", "guard")
    yield "screens", of | row | {"excluded_json": canonical_json(line.excluded)}
    for position, lever in enumerate(line.levers, start=1):
        yield "screen_levers", of | {"position": position} | taken(lever, "lever", "recipe_digest")
    for position, run in enumerate(line.rows, start=1):
        own = {"position": position, "row_name": run.name}
        yield "screen_rows", of | own | taken(run, "seed", "recipe_digest", "levers")
    names = [lever.lever for lever in line.levers]
    yield from _weights(of | {"solution": 1}, names, [run.name for run in line.rows], line.weights)


def _solved_anew(line: "ScreenWeights", _: Row) -> Iterator[tuple[str, Row]]:
    of = {"screen": line.screen, "solution": line.solution, "time_us": line.time_us}
    yield from _weights(of, line.levers, line.rows, line.weights)


def _weights(of: Row, levers: list[str], rows: list[str], weights: list[list[float]]) -> Iterator[tuple[str, Row]]:
    for lever, own in zip(levers, weights, strict=True):
        for row_name, weight in zip(rows, own, strict=True):
            yield "screen_weights", of | {"lever": lever, "row_name": row_name, "weight": weight}


def _verdicts(line: "Verdicts", _: Row) -> Iterator[tuple[str, Row]]:
    names = ("rule_digest", "control_digest", "cache_id", "evaluation_id", "lever", "recipe_digest")
    for decided in line.rows:
        row = taken(decided, *names, "decision", "reason", "effect")
        yield "recorded_verdicts", row | {"time_us": line.time_us}


def _encoder(line: "Encoder", _: Row) -> Iterator[tuple[str, Row]]:
    row = taken(line, "encoder_key", "encoder_digest", "file_name", "train_drives")
    yield "encoders", row | {"settings_json": canonical_json(line.settings), "time_us": line.time_us}


def _planned(line: "Planned", place: Row) -> Iterator[tuple[str, Row]]:
    for run_id in line.run_ids:
        yield "events", event_row(place, "planned", run_id)


def _tree(line: "Tree", _: Row) -> Iterator[tuple[str, Row]]:
    row = {"tree_digest": line.digest, "tree_json": canonical_json(line.tree)}
    yield "trees", row | taken(line, "amended_digest", "reason", "time_us")


def _phase(line: "Phase", _: Row) -> Iterator[tuple[str, Row]]:
    yield "tree_phases", taken(line, "tree_digest", "phase", "what", "why", "time_us")


def _note(line: "Note", _: Row) -> Iterator[tuple[str, Row]]:
    yield "notes", taken(line, "about", "subject", "note", "time_us")


def _tag(line: "Tag", _: Row) -> Iterator[tuple[str, Row]]:
    yield "said_tags", taken(line, "about", "subject", "taxonomy", "value", "time_us")


SCREEN_COLUMNS = {"bar": "bar", "guard": "guard", "unit": "bar_unit"}

STUDY_KINDS: dict[str, Maker] = {
    "cache": _cache,
    "calibrate": _calibrate,
    "seal": _seal,
    "amend": _amend,
    "base": _base,
    "encoder": _encoder,
    "stack": _stack,
    "screen": _screen,
    "weights": _solved_anew,
    "verdicts": _verdicts,
    "planned": _planned,
    "tree": _tree,
    "phase": _phase,
    "note": _note,
    "tag": _tag,
}


def _stage(stage: "Stage") -> Row:
    """A stage as a row. Rules that were sealed before there were first seeds and bar units began at the first seed."""
    return taken(stage, "name", "statistic", "num_seeds", "bar", "stack_above") | {
        "first_seed": 1 if stage.first_seed is None else stage.first_seed,
        "bar_unit": "metric" if stage.bar_unit is None else stage.bar_unit,
    }


def _terms(head: "RuleHead") -> Row:
    """What a rule seals beside its stages; None where it has none of it."""
    sigma, screen = head.sigma or {}, head.screen or {}
    row = {"sigma": sigma.get("value"), "sigma_df": sigma.get("df"), "rho": head.rho}
    return row | {f"screen_{name}": screen.get(key) for name, key in SCREEN_COLUMNS.items()}


def _number_of_a_run(key: "Measured") -> Row:
    """Which number of a run a rule looks at, and which way is better: lower where nothing is said."""
    where, drive = split_slice(key.slice) if key.drive is None else (key.slice, key.drive)
    row = taken(key, "metric", "channel") | {"slice": where, "readout": key.readout, "drive": drive}
    return row | {"direction": "lower" if key.direction is None else key.direction}


def _evaluation(head: "RuleHead") -> Row:
    """The evaluation identity that the rule judges; NULL, any, for rules that were sealed before they named one."""
    if head.evaluation is None:
        return {"evaluation_id": None, "evaluation_json": None}
    return {"evaluation_id": digest_json(head.evaluation), "evaluation_json": canonical_json(head.evaluation)}
