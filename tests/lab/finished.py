"""A small study with finished runs."""

from pathlib import Path
from unittest.mock import patch

from flowlab.lab.launch import Where, launch
from flowlab.ledger.ingest import ingest
from flowlab.study.study import Study
from tests.lab.small_study import CPU, Said, write_small

LEVERS = """
[levers.regression]
set = { "objective.kind" = "regression" }
[levers.rungs]
set = { "train.keep_every" = 1, "train.steps" = 16 }
"""


def finish(folder: Path, levers: list[str]) -> Study:
    """The small study, once the control, the rule's panel and these levers at seed 1001 are in its ledger."""
    study, where = write_small(folder, LEVERS), Where(CPU, "inline")
    with patch("flowlab.lab.sealing.NUM_LEVERS", 100), patch("flowlab.verdict.panel_size.LEVERS_PER_SIZE", 100):
        launch(
            study,
            levers,
            [1001],
            where,
            again=False,
            progress=Said(),
            show=lambda *_: None,
            announce=lambda _: None,
        )
    ingest(study.ledger, study.runs)
    return study
