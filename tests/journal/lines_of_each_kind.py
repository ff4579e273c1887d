"""A line of every kind, as flowlab 0.1 wrote it, and the call that wrote it."""

import json
from collections.abc import Callable
from typing import Any

from flowlab.core.digest import digest_json
from flowlab.core.types import MetricRow
from flowlab.journal.lines import RunJournal, StudyJournal
from flowlab.study.rule import Rule

RULE: dict[str, Any] = {
    "name": "one",
    "primary": {
        "metric": "l1",
        "channel": "steering",
        "slice": "spike_frame",
        "readout": "meank",
        "direction": "lower",
    },
    "panel_seeds": [1001, 1002],
    "judged_seeds": [2001],
    "stages": [
        {"name": "keep", "statistic": "panel", "num_seeds": 1, "bar": 2.0, "first_seed": 1, "bar_unit": "panel-sd"}
    ],
    "guardrails": [
        {
            "metric": "l1",
            "channel": "steering",
            "slice": "flat_frame",
            "readout": "meank",
            "direction": "lower",
            "margin": 0.004,
        }
    ],
    "evaluation": {"draws": 4},
}
RULE_DESIGN = digest_json(Rule.model_validate_json(json.dumps(RULE)).design())
RULE_TEXT = json.dumps(RULE, separators=(",", ":"))
RUN: dict[str, Any] = {
    "run_id": "r1",
    "study": "s",
    "lever": "wide",
    "seed": 7,
    "replicate": 0,
    "recipe": {"train": {"lr": 1e-4}},
    "recipe_digest": "r",
    "control_digest": "c",
    "cache_id": "k",
    "evaluation_id": "e",
    "evaluation": {"draws": 4},
}
RUN_TEXT = (
    '"run_id":"r1","study":"s","lever":"wide","seed":7,"replicate":0,"recipe":{"train":{"lr":0.0001}},'
    '"recipe_digest":"r","control_digest":"c","cache_id":"k","evaluation_id":"e","evaluation":{"draws":4}'
)
BASE: dict[str, Any] = {
    "control_digest": "c",
    "cache_id": "k",
    "evaluation_id": "e",
    "stacked": ("wide",),
    "recipe": {"a": 1},
}
STACK: dict[str, Any] = {
    "lever": "wide",
    "recipe_digest": "r",
    "rule_digest": "u",
    "control_digest": "c",
    "cache_id": "k",
    "evaluation_id": "e",
    "changes": {"train.lr": 1},
    "new_control_digest": "n",
    "replicate_seed": 3,
    "effect": 0.5,
}
SCREEN: dict[str, Any] = {
    "screen": "screen1",
    "rule_digest": "u",
    "control_digest": "c",
    "cache_id": "k",
    "evaluation_id": "e",
    "sigma": 0.5,
    "sigma_df": 7,
    "bar": 0.25,
    "guard": 2,
    "levers": [{"lever": "wide", "recipe_digest": "r"}],
    "rows": [{"name": "screen1_row1", "seed": 9, "recipe_digest": "x", "levers": ["wide"]}],
    "weights": [[1]],
    "excluded": {"deep": "why"},
}
DECIDED: dict[str, Any] = {
    "rule_digest": "u",
    "control_digest": "c",
    "cache_id": "k",
    "evaluation_id": "e",
    "lever": "wide",
    "recipe_digest": "r",
    "decision": "drop",
    "effect": None,
    "reason": "why",
}
ROWS = [
    MetricRow("l1", "steering", "overall", "meank", 1),
    MetricRow("l1", "", "slot:1", "single", 0.25, 3, "d-1"),
    MetricRow("l1", "", "drive:d", "single", 0.25, 3),
]

RUN_LINES: list[tuple[Callable[[RunJournal], None], str]] = [
    (lambda to: to.registered(**RUN), f'"registered",TIME,{RUN_TEXT},"changed_keys":[],"hypothesis":"","tags":[]'),
    (
        lambda to: to.registered(
            **RUN, changed_keys=("train.lr",), hypothesis="ü", tags=["levers:wide"], origin="mlflow:a.db"
        ),
        f'"registered",TIME,{RUN_TEXT},"changed_keys":["train.lr"],"hypothesis":"\\u00fc","tags":["levers:wide"],'
        '"origin":"mlflow:a.db"',
    ),
    (
        lambda to: to.started(
            attempt=1, device="cpu", cohort_size=2, threads=3, pid=4, environment={"torch": "2"}, git_revision="g"
        ),
        '"started",TIME,"attempt":1,"device":"cpu","cohort_size":2,"threads":3,"pid":4,"environment":{"torch":"2"},'
        '"git_revision":"g"',
    ),
    (
        lambda to: to.metrics(ROWS),
        '"metrics",TIME,"rows":[["l1","steering","overall","meank",1.0,-1],["l1","","slot:1","single",0.25,3,"d-1"],'
        '["l1","","drive:d","single",0.25,3]]',
    ),
    (lambda to: to.wall_time({"train": 1, "x": 0.5}), '"wall_time",TIME,"phases":{"train":1.0,"x":0.5}'),
    (lambda to: to.wall_time({"train": 1}, attempt=2), '"wall_time",TIME,"phases":{"train":1.0},"attempt":2'),
    (lambda to: to.artifact("p.bin", "d", 5), '"artifact",TIME,"name":"p.bin","digest":"d","bytes":5'),
    (lambda to: to.event("interrupted"), '"event",TIME,"what":"interrupted","detail":""'),
    (lambda to: to.finished(), '"finished",TIME'),
    (lambda to: to.crashed(reason="not finite", step=9), '"crashed",TIME,"reason":"not finite","step":9'),
]

STUDY_LINES: list[tuple[Callable[[StudyJournal], None], str]] = [
    (
        lambda to: to.cache(cache_id="k", identity={"z": 1, "a": [2]}, num_train=9, num_val=3, val_drives_digest="v"),
        '"cache",TIME,"cache_id":"k","identity":{"z":1,"a":[2]},"num_train":9,"num_val":3,"val_drives_digest":"v"',
    ),
    (
        lambda to: to.seal(digest=digest_json(RULE), rule=RULE),
        f'"seal",TIME,"digest":"d787d537ffa0240d","rule":{RULE_TEXT},"simulated":null',
    ),
    (
        lambda to: to.calibrate(digest=digest_json({"panel_seeds": [1]}), design={"panel_seeds": [1]}),
        '"calibrate",TIME,"digest":"3542036d5ea484cc","design":{"panel_seeds":[1]}',
    ),
    (
        lambda to: to.seal(digest=digest_json(RULE), rule=RULE, calibration=RULE_DESIGN),
        f'"seal",TIME,"digest":"d787d537ffa0240d","rule":{RULE_TEXT},"simulated":null,"calibration":"{RULE_DESIGN}"',
    ),
    (
        lambda to: to.screen(**SCREEN),
        '"screen",TIME,"screen":"screen1","rule_digest":"u","control_digest":"c","cache_id":"k","evaluation_id":"e",'
        '"sigma":0.5,"sigma_df":7,"bar":0.25,"guard":2.0,"levers":[{"lever":"wide","recipe_digest":"r"}],'
        '"rows":[{"name":"screen1_row1","seed":9,"recipe_digest":"x","levers":["wide"]}],"weights":[[1.0]],'
        '"excluded":{"deep":"why"}',
    ),
    (
        lambda to: to.screen_weights(
            screen="screen1", solution=2, levers=["wide"], rows=["a", "b"], weights=[[1, 0.5]]
        ),
        '"weights",TIME,"screen":"screen1","solution":2,"levers":["wide"],"rows":["a","b"],"weights":[[1.0,0.5]]',
    ),
    (
        lambda to: to.amend(
            digest=digest_json(RULE), rule=RULE, amended_digest="old", reason="why", simulated={"false": 0.1}
        ),
        f'"amend",TIME,"digest":"d787d537ffa0240d","rule":{RULE_TEXT},"amended_digest":"old","reason":"why",'
        '"simulated":{"false":0.1}',
    ),
    (
        lambda to: to.base(**BASE),
        '"base",TIME,"control_digest":"c","cache_id":"k","evaluation_id":"e","stacked":["wide"],"recipe":{"a":1}',
    ),
    (
        lambda to: to.base(**BASE, thresholds={"steering": 0.2}),
        '"base",TIME,"control_digest":"c","cache_id":"k","evaluation_id":"e","stacked":["wide"],"recipe":{"a":1},'
        '"thresholds":{"steering":0.2}',
    ),
    (
        lambda to: to.encoder(
            encoder_key="y", encoder_digest="d", file_name="f", train_drives=["a"], settings={"width": 8}
        ),
        '"encoder",TIME,"encoder_key":"y","encoder_digest":"d","file_name":"f","train_drives":["a"],'
        '"settings":{"width":8}',
    ),
    (
        lambda to: to.stack(**STACK),
        '"stack",TIME,"lever":"wide","recipe_digest":"r","rule_digest":"u","control_digest":"c","cache_id":"k",'
        '"evaluation_id":"e","changes":{"train.lr":1},"new_control_digest":"n","replicate_seed":3,"effect":0.5',
    ),
    (
        lambda to: to.verdicts(iter([DECIDED])),
        '"verdicts",TIME,"rows":[{"rule_digest":"u","control_digest":"c","cache_id":"k","evaluation_id":"e",'
        '"lever":"wide","recipe_digest":"r","decision":"drop","effect":null,"reason":"why"}]',
    ),
    (lambda to: to.planned(iter(["a-1", "a-2"])), '"planned",TIME,"run_ids":["a-1","a-2"]'),
    (
        lambda to: to.tree(digest=digest_json({"phases": []}), tree={"phases": []}),
        f'"tree",TIME,"digest":"{digest_json({"phases": []})}","tree":{{"phases":[]}}',
    ),
    (
        lambda to: to.tree(digest=digest_json({"a": 1}), tree={"a": 1}, amended_digest="old", reason="why"),
        f'"tree",TIME,"digest":"{digest_json({"a": 1})}","tree":{{"a":1}},"amended_digest":"old","reason":"why"',
    ),
    (
        lambda to: to.phase(tree_digest="t", phase="loss", what="ended", why="done"),
        '"phase",TIME,"tree_digest":"t","phase":"loss","what":"ended","why":"done"',
    ),
    (
        lambda to: to.note(about="lever", subject="wide", note="too wide"),
        '"note",TIME,"about":"lever","subject":"wide","note":"too wide"',
    ),
    (
        lambda to: to.tag(about="run", subject="r1", taxonomy="outcome", value="null"),
        '"tag",TIME,"about":"run","subject":"r1","taxonomy":"outcome","value":"null"',
    ),
    (
        lambda to: to.ingested(journal="r1/journal.jsonl", from_offset=0, to_offset=9, digest="d"),
        '"ingested",TIME,"journal":"r1/journal.jsonl","from_offset":0,"to_offset":9,"digest":"d"',
    ),
]

TIME_US = 1_700_000_000_123_456


def whole_line(text: str) -> str:
    """The line as it stands in the journal, written at TIME_US."""
    return '{"kind":' + text.replace("TIME", f'"time_us":{TIME_US}') + "}\n"
