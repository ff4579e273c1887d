"""Every command: its name, the function that it is, and the line that the help has of it."""

from flowlab.cli.lazy import Commands

COMMANDS: Commands = {
    "init": ("flowlab.cli.start:init", "Write experiments.toml for a new study."),
    "demo": (
        "flowlab.cli.start:demo",
        "Do it all once: record, train the encoder, build the cache, run the panel and delta-off, print the verdict.",
    ),
    "run": (
        "flowlab.cli.runs:run",
        "Train levers at some seeds, with what the comparison lacks: the control at these seeds and the rule's panel.",
    ),
    "screen": (
        "flowlab.cli.screening:screen",
        "Try many levers at once, in rows that have about half of them on; what shows is confirmed alone.",
    ),
    "loop": (
        "flowlab.cli.loop:loop",
        "Go through the study's tree, phase by phase: run what the rule owes, judge, stack, go on. Killed, it resumes.",
    ),
    "evaluate": (
        "flowlab.cli.evaluate:evaluate",
        "Score finished runs again without training: other draws, solver or readouts; each way has rows of its own.",
    ),
    "confirm": (
        "flowlab.cli.confirm:confirm",
        "Train a recipe once more with its encoder in the loop, frames to actions, beside its run from the cache.",
    ),
    "export": (
        "flowlab.cli.export:export",
        "Write a finished run, stitched to its frozen encoder, as one ONNX graph or as a folder that needs no study.",
    ),
    "predict": (
        "flowlab.cli.predict:predict",
        "What a finished run predicts on each validation frame, as a Parquet file (docs/predictions.md) and a picture.",
    ),
    "diagnose": (
        "flowlab.cli.diagnose:diagnose",
        "Ask a finished run one question: a table, numbers in the ledger, and a picture.",
    ),
    "status": ("flowlab.cli.status:status", "Every run the study knows, and how far it is."),
    "watch": (
        "flowlab.cli.watch:watch",
        "Look on while runs train: cohorts with their loss, what is owed, verdicts as they fall. Writes nothing.",
    ),
    "verdict": (
        "flowlab.cli.judge:verdict",
        "What the registered rule decides for every lever: pairs, deltas, panel, stage, decision, what is owed next.",
    ),
    "stack": (
        "flowlab.cli.runs:stack",
        "Put a lever into the control, if the rule says `stack` of it; otherwise say what is missing.",
    ),
    "note": (
        "flowlab.cli.notes:note",
        "Write down something about a run or a lever, for good; without a text, show what was written.",
    ),
    "tag": (
        "flowlab.cli.notes:tag",
        "Tag a run or a lever: scale, head, levers or outcome. The last tag of a taxonomy counts.",
    ),
    "compare": (
        "flowlab.cli.ask:compare",
        "The recipes of two runs where they differ, then final numbers that do; refused if evaluated in two ways.",
    ),
    "sql": ("flowlab.cli.ask:sql", "Ask the ledger in SQL. It is a DuckDB file: docs/views.md lists its views."),
    "report": (
        "flowlab.cli.report:report",
        "The whole campaign as one HTML file that needs nothing else: verdicts, metrics, runs, predictions, the rule.",
    ),
    "bench": (
        "flowlab.cli.bench:bench",
        "Measure flowlab against the same in ordinary PyTorch, with and without activation checkpointing, here.",
    ),
    "drives record": ("flowlab.cli.prepare:drives_record", "Record the simulator's drives that are not there yet."),
    "drives show": (
        "flowlab.cli.prepare:drives_show",
        "Drives: length, rate, channels, who drove where, which side of the split, and what could not be used.",
    ),
    "drives convert": (
        "flowlab.cli.convert:drives_convert",
        "Write recordings as a data set that other tools read, and flowlab too: what is driven, images, real times.",
    ),
    "encoder train": (
        "flowlab.cli.prepare:encoder_train",
        "Pretrain the encoder on the train drives and freeze it, unless the study has one.",
    ),
    "encoder show": (
        "flowlab.cli.prepare:encoder_show",
        "The study's frozen encoder: its condition, its weights, and how well its pretraining went.",
    ),
    "cache build": (
        "flowlab.cli.prepare:cache_build",
        "Build the caches that the control and the levers need, and first what these lack: recordings, the encoder.",
    ),
    "cache list": (
        "flowlab.cli.prepare:cache_list",
        "Every cache in the study's folder, whole or half built, and which levers need it.",
    ),
    "cache show": (
        "flowlab.cli.prepare:cache_show",
        "One cache: what is in it, what it was built from, what was dropped.",
    ),
    "cache verify": (
        "flowlab.cli.prepare:cache_verify",
        "Read every cache, encoder and file of stats whole, and say which are not what was written.",
    ),
    "stats": (
        "flowlab.cli.stats:stats",
        "Fit and store what runs need to know of the train split: knots, densities, thresholds; show and draw it.",
    ),
    "ranker train": (
        "flowlab.cli.ranker:train",
        "Train a ranker of each run's draws, on the train split. Options stand in for keys of the table `ranker`.",
    ),
    "ranker evaluate": (
        "flowlab.cli.ranker:evaluate",
        "What each run's ranker chooses among its draws, beside no choice and the best one. Name it by its settings.",
    ),
    "rule list": ("flowlab.cli.rules:rule_list", "The study's rules, which of them judges, and which is in force."),
    "rule show": (
        "flowlab.cli.rules:rule_show",
        "One rule, whole: what it asks, at which seeds, of which runs, how often it fools, how it was amended.",
    ),
    "rule simulate": (
        "flowlab.cli.rule_simulate:rule_simulate",
        "How often a rule stacks a lever that does nothing, and how often it finds one that does; before it is sealed.",
    ),
    "rule seal": (
        "flowlab.cli.rules:rule_seal",
        "Seal the study's rule now, without training its panel first; `flowlab run` trains it, then seals.",
    ),
    "rule amend": (
        "flowlab.cli.rules:rule_amend",
        "Put the study's rule in the place of the one in force, on the record: past levers under both, flips marked.",
    ),
    "ledger verify": (
        "flowlab.cli.ledger:ledger_verify",
        "Check schema, views, chain, journals, and every row against what the journals say; print the chain's head.",
    ),
    "ledger rebuild": (
        "flowlab.cli.ledger:ledger_rebuild",
        "Make the ledger anew from the journals in runs/, and put it in place if its chain goes the same way.",
    ),
    "ledger export": (
        "flowlab.cli.interop:ledger_export",
        "Write the whole ledger as Parquet and SQL that any DuckDB opens, without flowlab, with the same verdicts.",
    ),
    "ledger import": (
        "flowlab.cli.interop:ledger_import",
        "Bring finished runs of MLflow, W&B or a table into the ledger. They are shown beside ours, and never stack.",
    ),
    "ledger tensorboard": (
        "flowlab.cli.interop:ledger_tensorboard",
        "Write runs' metrics as TensorBoard event files; look at them with: tensorboard --logdir DIR.",
    ),
}
"""Every command, in the order of the help."""

GROUPS = {
    "drives": "Recordings: make them, look at them, write them for other tools.",
    "encoder": "The frozen encoder: pretrain it, look at it.",
    "cache": "The cache of condition tokens: build it, look at it.",
    "ranker": "Learned rankers of finished runs' draws: train them, see what they choose.",
    "rule": "Rules: seal them, amend them, learn how often they would fool you.",
    "ledger": "The ledger: verify its chain, make it anew, take it elsewhere.",
}
