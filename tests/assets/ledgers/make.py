"""Writes <revision>.tar.gz beside this file: a small study's journals and its ledger, by the flowlab that is imported.

Run it once for each revision of the schema, with the flowlab that had it:
`PYTHONPATH=<that checkout> python make.py 0002`.
It uses only what every revision has: journals, ingestion, and a rule as JSON.
"""

import json
import sys
import tarfile
import tempfile
from pathlib import Path

from flowlab.core.digest import digest_json
from flowlab.core.types import MetricRow
from flowlab.journal.lines import RunJournal, StudyJournal
from flowlab.ledger.ingest import ingest
from flowlab.study.rule import Rule

REVISION = sys.argv[1]
EVALUATION = {"cache_id": "cache", "draws": 32}
CONTROLS = {1000: 0.3289, 1001: 0.3555, 1002: 0.3237, 1003: 0.3387}  # the published panel; two seeds were not published
LEVERS = {
    "delta-off": {1001: 0.3274, 1002: 0.3276},
    "depth-2": {1001: 0.3487},
    "good": {1001: 0.3000, 1002: 0.3000},
    "unstable": {1001: None},
    "waiting": {1001: 0.3200},
}


def key(where: str) -> dict:
    found = {"metric": "l1", "channel": "steering", "slice": where, "readout": "meank"}
    return found if REVISION < "0003" else found | {"direction": "lower"}


def rule() -> dict:
    """The rule `panel` as this revision's flowlab wrote it."""
    stages = [
        {"name": "triage", "statistic": "paired", "num_seeds": 1, "bar": 0.010},
        {"name": "stack", "statistic": "panel", "num_seeds": 2, "bar": 0.015},
    ]
    if REVISION >= "0002":
        stages = [stage | {"first_seed": 1, "bar_unit": "metric"} for stage in stages]
    found = {
        "name": "panel",
        "primary": key("spike_frame"),
        "panel_seeds": list(CONTROLS),
        "judged_seeds": [1001, 1002],
        "stages": stages,
        "guardrails": [key("flat_frame") | {"margin": 0.004}],
    }
    return found if REVISION < "0003" else found | {"evaluation": EVALUATION}


def screen(journal: StudyJournal) -> None:
    """A screen of two levers in four rows, none of which has run; of the last one it is known that it will not."""
    on = {"screen1_row1": [], "screen1_row2": ["good"], "screen1_row3": ["wide"], "screen1_row4": ["good", "wide"]}
    journal.screen(
        screen="screen1",
        rule_digest=digest_json(rule()),
        control_digest="base",
        cache_id="cache",
        evaluation_id=digest_json(EVALUATION),
        sigma=0.014,
        sigma_df=7,
        bar=0.01,
        guard=2.0,
        levers=[{"lever": "good", "recipe_digest": "good"}, {"lever": "wide", "recipe_digest": "wide"}],
        rows=[
            {"name": name, "seed": 3000 + at, "recipe_digest": name, "levers": levers}
            for at, (name, levers) in enumerate(on.items())
        ],
        weights=[[-0.5, 0.5, -0.5, 0.5], [-0.5, -0.5, 0.5, 0.5]],
        excluded={"delta-off": "changes what good changes"},
    )
    journal.screen_weights(
        screen="screen1",
        solution=2,
        levers=["good", "wide"],
        rows=["screen1_row1", "screen1_row2", "screen1_row3"],
        weights=[[-1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]],
    )


def say(journal: StudyJournal) -> None:
    """A tree of one phase that has begun, a note and a tag."""
    tree = {"phases": [{"name": "loss", "levers": ["good"]}]}
    journal.tree(digest=digest_json(tree), tree=tree)
    journal.phase(tree_digest=digest_json(tree), phase="loss", what="began", why="first of 1")
    journal.note(about="lever", subject="good", note="looks good")
    journal.tag(about="lever", subject="depth-2", taxonomy="outcome", value="negative")


def write_run(runs: Path, lever: str, seed: int, value: float | None) -> None:
    run_id = f"{lever}-{seed}"
    with RunJournal.of(runs, run_id) as journal:
        journal.registered(
            run_id=run_id,
            study="asset",
            lever=lever,
            seed=seed,
            replicate=0,
            recipe={"train": {"lr": 1e-3}},
            recipe_digest="base" if lever == "control" else lever,
            control_digest="base",
            cache_id="cache",
            evaluation_id=digest_json(EVALUATION),
            evaluation=EVALUATION,
            changed_keys=[] if lever == "control" else ["train.lr"],
            hypothesis="an asset",
            tags=["scale:pilot"],
        )
        journal.started(
            attempt=0, device="cpu", cohort_size=1, threads=1, pid=1, environment={"torch": "2"}, git_revision=""
        )
        journal.metrics([MetricRow("flow_mse", "", "overall", "", 1.0 / (step + 1), step) for step in range(3)])
        if value is None:
            journal.crashed("loss is not finite", 3)
            return
        journal.metrics(
            [
                MetricRow("l1", "steering", "spike_frame", "meank", value),
                MetricRow("l1", "steering", "flat_frame", "meank", 0.1),
            ]
        )
        if REVISION >= "0004":  # on a validation drive
            journal.metrics([MetricRow("l1", "steering", "spike_frame", "meank", value, drive="drive_07")])
        journal.wall_time({"train": 1.5}, **({} if REVISION < "0006" else {"attempt": 0}))
        journal.artifact("policy.safetensors", "d1", 123)
        journal.finished()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs, ledger = Path(folder) / "runs", Path(folder) / "ledger.duckdb"
        with StudyJournal.of(runs) as journal:
            journal.cache(cache_id="cache", identity={"a": 1}, num_train=9, num_val=3, val_drives_digest="v")
            if REVISION >= "0004":
                journal.encoder(
                    encoder_key="vit",
                    encoder_digest="e1",
                    file_name="e1.safetensors",
                    train_drives=["drive_01"],
                    settings={"width": 64},
                )
                journal.base(
                    control_digest="base",
                    cache_id="cache",
                    evaluation_id=digest_json(EVALUATION),
                    stacked=[],
                    recipe={"train": {"lr": 1e-3}},
                )
            if REVISION >= "0005":  # its seeds, statistics and guardrails stood before
                design = Rule.model_validate_json(json.dumps(rule())).design()
                journal.calibrate(digest=digest_json(design), design=design)
                journal.seal(digest=digest_json(rule()), rule=rule(), calibration=digest_json(design))
                screen(journal)
            else:
                journal.seal(digest=digest_json(rule()), rule=rule())
            if REVISION >= "0006":
                say(journal)
        ingest(ledger, runs)
        for seed, value in CONTROLS.items():
            write_run(runs, "control", seed, value)
        for lever, values in LEVERS.items():
            for seed, number in values.items():
                write_run(runs, lever, seed, number)
        problems = ingest(ledger, runs).problems
        with RunJournal.of(runs, "depth-2-1001") as journal:  # said again, in another way: a conflict
            journal.metrics([MetricRow("flow_mse", "", "overall", "", 9.0, 0)])
        problems += ingest(ledger, runs).problems
        assert not problems, problems
        with tarfile.open(Path(__file__).with_name(f"{REVISION}.tar.gz"), "w:gz") as archive:
            for part in (ledger, runs):
                archive.add(part, part.name, filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return None if entry.name.endswith(".lock") else entry


if __name__ == "__main__":
    main()
