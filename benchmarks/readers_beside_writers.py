"""How long do reading commands take beside runs that write, against the same commands with nobody writing?

--writers processes each append a line of metrics as an epoch of a run does, every --pause-s seconds, each line waiting
for the disk as those of runs do. --readers processes go round the commands meanwhile. Phases alternate, nobody writing
and everybody writing, --rounds times, --seconds each; readers are as many in both. Told for each command: medians and
the longest time, medians of processor time (which says more where others use the machine too), what it may take (1.5
times the idle median and a second), how many lines `ingested` a phase wrote for each command and journal, and how many
answers were not exit code 0.

Prints a table and writes benchmarks/results/readers_beside_writers.json. Small: --seconds 10 --rounds 1.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from flowlab.core.digest import digest_json
from flowlab.core.types import MetricRow
from flowlab.journal.lines import RunJournal
from flowlab.ledger.ingest import ingest
from flowlab.study.study import load_study
from flowlab.verdict.seal import seal_rule

REPOSITORY = Path(__file__).parents[1]
EVALUATION = {"named": "benchmark"}
COMMANDS = {
    "status": ["status"],
    "verdict": ["verdict"],
    "sql": ["sql", "select count(*) from metrics", "--json"],
    "rule list": ["rule", "list"],
    "ledger verify": ["ledger", "verify"],
}
ROWS_PER_LINE = 16  # of an epoch: the error, by flow time, and what was trained on
Times = dict[str, list[tuple[float, float]]]  # wall and processor seconds


def main() -> None:
    asked = options()
    phases: dict[str, Times] = {"idle": {}, "beside": {}}
    failed, most_orders = 0, 0.0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "study"
        make_study(root)
        for _ in range(asked.rounds):
            for phase, times in phases.items():
                before = count_orders(root)
                with writers(root, asked.writers if phase == "beside" else 0, asked.pause_s) as num_journals:
                    found, wrong = read_for(root, asked.readers, asked.seconds)
                failed += wrong
                for command, seconds in found.items():
                    times.setdefault(command, []).extend(seconds)
                if num_journals:
                    asked_times = sum(len(seconds) for seconds in found.values())
                    most_orders = max(most_orders, (count_orders(root) - before) / asked_times / num_journals)
        num_lines = sum(path.read_bytes().count(b"\n") for path in (root / "runs").glob("*/journal.jsonl"))
    result: dict[str, Any] = {"cores": os.cpu_count()} | vars(asked)
    result |= {"lines_written": num_lines, "not_exit_code_0": failed, "orders_per_command_and_journal": most_orders}
    print(f"{'seconds of':<16}{'idle':>8}{'beside':>8}{'longest':>9}{'allowed':>9}{'cpu idle':>10}{'cpu beside':>12}")
    for command in COMMANDS:
        idle, beside = phases["idle"].get(command, []), phases["beside"].get(command, [])
        if not idle or not beside:
            continue
        (idle_s, idle_cpu_s), (beside_s, beside_cpu_s) = (
            [*map(statistics.median, zip(*got, strict=True))] for got in (idle, beside)
        )
        told = {"idle_s": idle_s, "beside_s": beside_s, "longest_s": max(beside)[0], "allowed_s": 1.5 * idle_s + 1}
        result[command] = told | {"idle_cpu_s": idle_cpu_s, "beside_cpu_s": beside_cpu_s, "asked": len(beside)}
        shown = f"{idle_s:8.2f}{beside_s:8.2f}{told['longest_s']:9.2f}{told['allowed_s']:9.2f}"
        print(f"{command:<16}{shown}{idle_cpu_s:10.2f}{beside_cpu_s:12.2f}")
    for what in ("lines_written", "not_exit_code_0", "orders_per_command_and_journal"):
        print(f"{what:<34} {result[what]:,.3g}" if what.startswith("orders") else f"{what:<34} {result[what]:,}")
    path = Path(__file__).parent / "results" / "readers_beside_writers.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Reading commands beside runs that write.")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0, help="of one phase")
    parser.add_argument("--rounds", type=int, default=2, help="of nobody writing, then everybody")
    parser.add_argument("--pause-s", type=float, default=0.05, help="between the lines of one writer")
    return parser.parse_args()


def make_study(root: Path) -> None:
    """The demo's study, its rule sealed, with finished runs of the control and of four levers."""
    root.mkdir()
    shutil.copy(REPOSITORY / "experiments.toml", root)
    study = load_study(root)
    seal_rule(study.rule.judging(EVALUATION), study.runs, study.ledger)
    keys = [study.rule.primary, *study.rule.guardrails]
    rows = [MetricRow(key.metric, key.channel, key.slice, key.readout, 0.3) for key in keys]
    wanted = [("control", seed) for seed in study.rule.panel_seeds]
    wanted += [(f"lever-{number}", seed) for number in range(4) for seed in study.rule.judged_seeds]
    for lever, seed in wanted:
        with RunJournal.of(study.runs, f"{lever}-{seed}") as journal:
            register(journal, lever, seed)
            journal.metrics(rows)
            journal.finished()
    ingest(study.ledger, study.runs)


def register(journal: RunJournal, lever: str, seed: int) -> None:
    journal.registered(
        run_id=f"{lever}-{seed}", study="benchmark", lever=lever, seed=seed, replicate=0, recipe={},
        recipe_digest=lever, control_digest="control", cache_id="cache", evaluation_id=digest_json(EVALUATION),
        evaluation=EVALUATION,
    )  # fmt: skip


@contextmanager
def writers(root: Path, num: int, pause_s: float) -> Iterator[int]:
    """So many processes that write runs of their own meanwhile."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    seed = time.time_ns() // 1_000_000_000
    processes = [context.Process(target=write, args=(root, index, seed, pause_s, stop)) for index in range(num)]
    for process in processes:
        process.start()
    until = time.monotonic() + 60
    while len(list((root / "runs").glob(f"writer-*-{seed}/journal.jsonl"))) < num and time.monotonic() < until:
        time.sleep(0.05)
    try:
        yield num
    finally:
        stop.set()
        for process in processes:
            process.join()


def write(root: Path, index: int, seed: int, pause_s: float, stop: Event) -> None:
    """One run that goes on until `stop`: a line an epoch."""
    with RunJournal.of(root / "runs", f"writer-{index}-{seed}") as journal:
        register(journal, f"writer-{index}", seed)
        step = 0
        while not stop.is_set():
            slices = ["overall", *(f"time:{part}" for part in range(1, ROWS_PER_LINE))]
            journal.metrics([MetricRow("flow_mse", "", where, "", 1 / (step + 2), step) for where in slices])
            step += 1
            time.sleep(pause_s)


def read_for(root: Path, num_readers: int, seconds: float) -> tuple[Times, int]:
    """How long each command took, asked by so many processes for so long, and how many did not end with 0."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(num_readers) as pool:
        found = pool.starmap(read_round, [(root, number, seconds) for number in range(num_readers)])
    times: Times = {}
    for per_command, _ in found:
        for command, taken in per_command.items():
            times.setdefault(command, []).extend(taken)
    return times, sum(wrong for _, wrong in found)


def read_round(root: Path, first: int, seconds: float) -> tuple[Times, int]:
    """One reader: all commands in turn, each reader beginning with another one."""
    names = list(COMMANDS)
    times: Times = {}
    failed, until, number = 0, time.monotonic() + seconds, first
    while time.monotonic() < until:
        name = names[number % len(names)]
        command = [sys.executable, "-c", "from flowlab.cli.main import main; main()", *COMMANDS[name]]
        begin, cpu_before_s = time.perf_counter(), children_cpu_s()
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        times.setdefault(name, []).append((time.perf_counter() - begin, children_cpu_s() - cpu_before_s))
        if done.returncode:
            failed += 1
            print(f"{name}: {done.stderr.strip()}", file=sys.stderr)
        number += 1
    return times, failed


def children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def count_orders(root: Path) -> int:
    """How many parts of journals were ordered to be read so far."""
    return (root / "runs" / "study.jsonl").read_bytes().count(b'"kind":"ingested"')


if __name__ == "__main__":
    main()
