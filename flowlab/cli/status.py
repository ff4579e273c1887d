"""`flowlab status`: how far every run is."""

from typing import Any

from flowlab.cli import judge
from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import figure, out, print_json, table

SILENT_S = 15.0
"""A run that said nothing for so long is told: it may be stuck."""


def status(study: StudyOption = None, as_json: JsonOption = False) -> None:
    """Every run the study knows, and how far it is."""
    from flowlab.lab.status import read_status
    from flowlab.ledger.connection import reading

    found = open_study(study)
    with reading(found.ledger):
        judge.ingest_all(found)
        runs = read_status(found)
    if as_json:
        print_json(runs)
        return
    rows = [[run["run_id"], run["status"], steps(run), _attempts(run), _note(run)] for run in runs]
    out().print(table(["run", "status", "step", "attempts", "note"], rows, f"runs of study {found.name}"))


def _attempts(run: dict[str, Any]) -> int | None:
    """How often its training was begun; a scoring has none of its own."""
    return None if run["scored_from"] else run["num_attempts"]


def _note(run: dict[str, Any]) -> str | None:
    """How a run moves, why it crashed, or which runs' policies it only scores again."""
    num = len(run["scored_from"])
    if num:
        return f"of {num} runs" if num > 1 else "scored again"
    return run["reason"] or movement(run) or _past_best(run)


def _past_best(run: dict[str, Any]) -> str | None:
    """A word for a finished run that was better long before its end."""
    health = run["health"]
    if run["status"] != "finished" or not health or not health["is_past_best"]:
        return None
    return f"{health['metric']} best at step {health['best_step']}"


def movement(run: dict[str, Any]) -> str:
    """What a run does now, its loss, and how long it still takes: "train, loss 0.0312, 1:05 left"."""
    if run["phase"] is None:
        return ""
    parts = [run["phase"]]
    if run["loss"] is not None:
        parts.append(f"loss {figure(run['loss'])}")
    if run["age_s"] > SILENT_S:
        parts.append(f"no sign for {clock(run['age_s'])}")
    elif run["left_s"] is not None:
        parts.append(f"{clock(run['left_s'])} left")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """A duration for people: "1:05", "2:03:40"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def steps(run: dict[str, Any]) -> str:
    """How many steps a run has gone, of how many where its recipe says: an imported one, or a scoring, does not."""
    if run["scored_from"]:
        return ""
    return f"{run['last_step'] or 0}" + (f"/{run['steps']}" if run["steps"] is not None else "")
