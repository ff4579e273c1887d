"""How fast does the ledger take results in, judge them, and simulate rules; how long does a person wait for an answer?

- ingest: journals of --journals runs of --metrics rows, written as runs write them, then `ingest`; against executemany,
  one row a statement, all in one transaction.
- verify, rebuild: the same rows, walked and made anew.
- verdicts: `select * from verdicts` on --runs runs of --metrics final metrics each, under the preset `fresh` with 8
  controls and 4 guardrails; within one connection, and through `read`, which opens one for each question.
- commands: `flowlab --help`, and `flowlab verdict` on the study that was ingested.
- simulate: what `flowlab rule simulate` calls, --campaigns of 35 levers: `panel` with 4 controls, `fresh` with 8.

Prints a table and writes benchmarks/results/ledger.json. Small: --runs 200 --metrics 20 --journals 10 --campaigns 100.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from flowlab.core.digest import digest_json
from flowlab.core.types import MetricRow
from flowlab.journal.journal import Line
from flowlab.journal.lines import RunJournal
from flowlab.ledger.connection import open_ledger, read
from flowlab.ledger.ingest import ingest
from flowlab.ledger.migrate import migrate
from flowlab.ledger.rebuild import rebuild
from flowlab.ledger.rows import rows_of
from flowlab.ledger.study_rows import STUDY_KINDS
from flowlab.ledger.tables import NUMBER_KEY
from flowlab.ledger.verify import verify
from flowlab.ledger.writer import Writer
from flowlab.study.rule import PRESETS, Rule, preset_rule
from flowlab.study.settings import Guardrail, MetricKey
from flowlab.study.study import load_study
from flowlab.verdict.seal import seal_rule
from flowlab.verdict.simulate import Campaigns, simulate

REPOSITORY = Path(__file__).parents[1]
LEVERS_PER_CAMPAIGN = 35
PLAIN_ROWS = 2000  # one INSERT each: enough to tell the rate

EVALUATION = {"named": "benchmark"}
PRIMARY = MetricKey(metric="l1", channel="steering", slice="spike_frame", readout="meank")
RULE = Rule(
    name="fresh",
    primary=PRIMARY,
    panel_seeds=tuple(range(1001, 1009)),
    judged_seeds=(2001, 2002, 2003, 2004),
    stages=PRESETS["fresh"],
    guardrails=tuple(
        Guardrail(metric="l1", channel=channel, slice=where, readout="meank", margin=0.004)
        for channel, where in (
            ("steering", "flat_frame"), ("steering", "overall"), ("gas", "overall"), ("steering", "slot:1")
        )
    ),
    evaluation=EVALUATION,
)  # fmt: skip

KEYS = """
create temp table keys as
select metric, channel, slice, '' as drive, readout, row_number() over () as key, {number_key} as number_key
from (select unnest(['l1', 'maneuver_l1', 'chunk_mean_l1', 'chunk_mean_correlation']) as metric)
cross join (select unnest(['steering', 'gas', 'brake', '']) as channel)
cross join (
    select unnest(['overall', 'flat_frame', 'spike_frame', 'flat_slot'] || ['slot:' || s for s in range(1, 7)]) as slice
)
cross join (select unnest(['meank', 'single', 'mediank', 'oracle']) as readout)
order by (metric, channel, slice, readout) not in (select (metric, channel, slice, readout) from rule_metrics)
limit {num_metrics}
"""

# Eight controls, then levers with 1, 2, 3 and 4 judged seeds in turn, some better than others.
RUNS = """
create temp table made as
select
    *,
    row_number() over () as number,
    format('{{}}-{{}}-{{}}', lever, seed, substr(md5('run' || lever), 1, 16)) as run_id
from (
    select 'control' as lever, 1000 + s as seed, 0 as quality from range(1, 9) t(s)
    union all (
        select 'lever-' || l, 2000 + s, l // 4 % 5
        from range({num_runs}) levers(l) cross join range(1, 5) seeds(s)
        where s <= 1 + l % 4
        order by l, s
        limit {num_runs} - 8
    )
)
"""

FILL = """
insert into runs by name
select
    run_id, 'benchmark' as study, lever, seed, 0 as replicate, substr(md5(lever), 1, 16) as recipe_digest,
    substr(md5('control'), 1, 16) as control_digest, 'base' as base_id, substr(md5('cache'), 1, 16) as cache_id,
    (select evaluation_id from rules) as evaluation_id, '{}' as evaluation_json, [] as changed_keys, '' as hypothesis,
    number as time_us, number as entry
from made order by number;

insert into events by name
select
    run_id || '/journal.jsonl' as journal, position, run_id, what, '' as detail, number as time_us, number as entry
from made cross join (values (0, 'registered'), (1, 'started'), (2, 'finished')) as lines(position, what)
order by number, position;

insert into metrics by name
select
    run_id, metric, channel, slice, drive, readout, number_key, -1 as step,
    0.35 - 0.01 * quality + 0.05 * (hash(run_id, key) % 1000003 / 1000003 - 0.5) as value,
    number as time_us, number as entry
from made cross join keys order by number, key;

checkpoint;
"""


def build_ledger(path: Path, num_runs: int, num_metrics: int) -> None:
    """A ledger of `num_runs` finished runs with `num_metrics` final metrics each, by SQL: journals take minutes."""
    migrate(path)
    with open_ledger(path, read_only=False) as connection:
        writer = Writer(connection)
        line = Line(0, {"kind": "seal", "time_us": 0, "digest": RULE.digest(), "rule": RULE.to_json()})
        for table, row in rows_of(line, {}, STUDY_KINDS):
            writer.insert(table, [row | {"entry": 1}])
        connection.execute(KEYS.format(num_metrics=num_metrics, number_key=NUMBER_KEY))
        connection.execute(RUNS.format(num_runs=num_runs))
        connection.execute(FILL)


def main() -> None:
    asked = options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {"cores": os.cpu_count()} | vars(asked)
        found |= measure_ingest(folder / "study", asked.journals, asked.metrics)
        found |= measure_commands(folder / "study", asked.repeats)
        found |= measure_verdicts(folder / "ledger.duckdb", asked.runs, asked.metrics, asked.repeats)
    for preset, controls in (("panel", 4), ("fresh", 8)):
        found[f"simulate_{preset}_levers_per_s"] = levers_per_s(preset, controls, asked.campaigns)
    for what, value in found.items():
        print(f"{what:<34} {value:>14,.3f}" if isinstance(value, float) else f"{what:<34} {value:>14,}")
    path = Path(__file__).parent / "results" / "ledger.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times of the ledger.")
    parser.add_argument("--runs", type=int, default=10_000, help="runs that the verdicts are about")
    parser.add_argument("--metrics", type=int, default=500, help="final metrics a run, 5 to 640")
    parser.add_argument("--journals", type=int, default=200, help="runs that are ingested through journals")
    parser.add_argument("--campaigns", type=int, default=28_572, help="simulated campaigns of 35 levers")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def measure_ingest(root: Path, num_runs: int, num_metrics: int) -> dict[str, float]:
    """Metric rows a second, through journals and one by one."""
    root.mkdir()
    shutil.copy(REPOSITORY / "experiments.toml", root)
    study = load_study(root)
    seal_rule(study.rule.judging(EVALUATION), study.runs, study.ledger)
    keys = [study.rule.primary, *study.rule.guardrails]
    rows = [MetricRow(key.metric, key.channel, key.slice, key.readout, 0.3) for key in keys]
    rows += [MetricRow("l1", "steering", f"drive:{i}", "meank", i / 1000) for i in range(num_metrics - len(keys))]
    wanted = [("control", seed) for seed in study.rule.panel_seeds]
    wanted += [(f"lever-{i}", seed) for i in range(num_runs) for seed in study.rule.judged_seeds]
    for lever, seed in wanted[:num_runs]:
        with RunJournal.of(study.runs, f"{lever}-{seed}") as journal:
            journal.registered(
                run_id=f"{lever}-{seed}", study="benchmark", lever=lever, seed=seed, replicate=0,
                recipe={}, recipe_digest=lever, control_digest="control", cache_id="cache",
                evaluation_id=digest_json(EVALUATION), evaluation=EVALUATION,
            )  # fmt: skip
            journal.metrics(rows)
            journal.finished()
    seconds = seconds_of(lambda: ingest(study.ledger, study.runs))
    verify(study.ledger, study.runs)  # once before: it makes a new ledger's schema to compare with
    verify_s = seconds_of(lambda: verify(study.ledger, study.runs))
    rebuild_s = seconds_of(lambda: rebuild(study.ledger, study.runs))
    plain = root / "plain.duckdb"
    with duckdb.connect(str(plain)) as connection:
        connection.execute(
            "create table metrics (run text, metric text, channel text, slice text, readout text, x double)"
        )
        values = [["run", *row[:5]] for row in (rows * (PLAIN_ROWS // len(rows) + 1))[:PLAIN_ROWS]]
        connection.begin()
        plain_s = seconds_of(lambda: connection.executemany("insert into metrics values (?, ?, ?, ?, ?, ?)", values))
    rate, plain_rate = num_runs * num_metrics / seconds, PLAIN_ROWS / plain_s
    return {
        "ingest_rows_per_s": rate,
        "ingest_one_by_one_rows_per_s": plain_rate,
        "ingest_ratio": rate / plain_rate,
        "verify_rows_per_s": num_runs * num_metrics / verify_s,
        "rebuild_rows_per_s": num_runs * num_metrics / rebuild_s,
    }


def measure_commands(root: Path, repeats: int) -> dict[str, float]:
    """Wall time of whole commands, the least of some: what a person waits for."""
    found = {}
    for name, arguments in (("help", ["--help"]), ("verdict", ["verdict"])):
        command = [sys.executable, "-c", "from flowlab.cli.main import main; main()", *arguments]

        def ask(command: list[str] = command) -> None:
            subprocess.run(command, cwd=root, check=True, capture_output=True)

        found[f"flowlab_{name}_s"] = min(seconds_of(ask) for _ in range(repeats + 1))
    return found


def measure_verdicts(path: Path, num_runs: int, num_metrics: int, repeats: int) -> dict[str, float]:
    """Seconds for every verdict, warm: the least and the median."""
    build_ledger(path, num_runs, num_metrics)
    question = "select * from verdicts"
    num_verdicts = len(read(path, question).rows)
    with open_ledger(path, read_only=True) as connection:
        connection.execute(question).fetchall()
        inside = [seconds_of(lambda: connection.execute(question).fetchall()) for _ in range(repeats)]
    opening = [seconds_of(lambda: read(path, question)) for _ in range(repeats)]
    return {
        "ledger_mb": path.stat().st_size / 1e6,
        "verdicts": num_verdicts,
        "verdicts_one_connection_min_s": min(inside),
        "verdicts_one_connection_median_s": statistics.median(inside),
        "verdicts_read_min_s": min(opening),
        "verdicts_read_median_s": statistics.median(opening),
    }


def levers_per_s(preset: str, controls: int, campaigns: int) -> float:
    """Levers simulated and judged a second."""
    asked = Campaigns(LEVERS_PER_CAMPAIGN, 0, 0.02, 0.014, 0.0, 0.0, campaigns, 0)
    rule = preset_rule(preset, controls)
    return campaigns * LEVERS_PER_CAMPAIGN / seconds_of(lambda: simulate(rule, asked))


def seconds_of(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
