"""What the view files say of themselves is so: their grain, what they read, their words; and docs/views.md tells it."""

import re
from pathlib import Path
from typing import get_args

import pytest

from flowlab.core import vocabulary
from flowlab.core.digest import digest_json
from flowlab.core.types import MetricRow
from flowlab.journal.lines import RunJournal, StudyJournal
from flowlab.ledger.answers import answer_of
from flowlab.ledger.connection import open_ledger, read
from flowlab.ledger.ingest import ingest
from flowlab.ledger.migrate import migrate, migrations_dir
from flowlab.verdict.seal import amend_rule, register_design
from tests.verdict.campaign import EVALUATION, FLAT, Campaign, panel_rule, preset, sealable

FILES = {file.stem.split("_", 1)[1]: file for file in sorted((migrations_dir() / "views").glob("*.sql"))}
GRAIN = re.compile(r"-- grain: one row per ([a-z_, ]+)\n-- ")
DOCS = Path(__file__).parents[2] / "docs" / "views.md"
LINKS = {
    "panel_seeds", "panel_origins", "calibrated_rules", "wanted_bases", "wanted_panels", "owed_controls", "rule_values",
    "scores", "lever_seeds",
    "lever_doubts", "lever_stages",
    "lever_reached", "lever_guards", "lever_decisions",
}  # fmt: skip
"""Where verdicts take their rows from; not for asking, so docs/views.md names them and lists no columns."""

WORDS = {
    *vocabulary.RUN_STATES, *vocabulary.TELLING_EVENTS, *vocabulary.BASELINES, vocabulary.CONTROL, vocabulary.OVERALL,
    *get_args(vocabulary.Better), *vocabulary.BIT_FACTS, vocabulary.UNTOLD, vocabulary.PURPOSE, "began", "ended",
    "stack", "drop", "undecided",
    "panel", "judged", "primary", "guardrail", "discovery", "fresh", "replicate",
    *vocabulary.TAXONOMIES, "lever",
    "paired", "adjusted", "metric", "sigma", "num_frames", "levers", "scored-from",
}  # fmt: skip
"""What views may compare with: the vocabulary, decisions, the words of rules, and what evaluation calls its counts."""


def text_of(name: str) -> str:
    return FILES[name].read_text()


def code_of(name: str) -> str:
    """The view without its comments."""
    return re.sub(r"--[^\n]*", "", text_of(name))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_ledger(tmp_path_factory.mktemp("judged"))


def fill_ledger(folder: Path) -> Path:
    """Rules, a calibration, bases, levers, a placebo, replicates, a crash, drives, two devices, a stack, a screen."""
    ledger, runs = folder / "ledger.duckdb", folder / "runs"
    migrate(ledger)
    fresh = sealable(preset("fresh", (1001, 1002), (1001, 1002, 1003, 1004)))
    register_design(fresh, runs, ledger, "base")
    campaign = Campaign(ledger, runs, fresh)
    campaign.flat = 0.1
    drives = {"a": (10, 0.42), "b": (20, 0.38)}
    campaign.run("seen", 1001, 0.30, drives=drives)
    campaign.run("seen", 1002, 0.30, drives=drives, replicate=1)
    ingest(ledger, runs)
    second = sealable(panel_rule(guardrails=(FLAT, FLAT.model_copy(update={"slice": "spike_frame", "margin": 0.1}))))
    amend_rule(second, "a test", runs, ledger)
    for control in ("base", "moved"):
        for seed in (1001, 1002, 1003):
            if (control, seed) != ("moved", 1002):  # which is owed
                campaign.run("control", seed, 0.40 + seed / 1e6, control=control, drives=drives)
            for lever in ("good", "better", "placebo"):
                recipe = control if lever == "placebo" else ""
                campaign.run(
                    lever, seed, 0.36 + seed / 1e6, control=control, recipe=recipe, drives=drives, tags=("x", "y")
                )
    (control,) = (path.name for path in runs.glob("control-1001-*-base-*"))
    with RunJournal.of(runs, control) as journal:
        journal.metrics([MetricRow("l1", "steering", "overall", "repeat-last", 0.5)])
        journal.metrics([MetricRow("l1", "steering", "spike_frame", "repeat-last", 0.3)])
        journal.metrics([MetricRow("flow_mse", "", "overall", "", 0.5, 10)])
        journal.wall_time({"train": 1.5}, 0)
        journal.artifact("0123456789abcdef.zarr built 1700000000000000", "fedcba9876543210", 123)
    good = campaign.run("good", 1001, 0.36, evaluation="other")
    campaign.run("good", 1001, 0.35, evaluation="third", scored_from=good)
    campaign.run("elsewhere", 1001, 0.36, device="cuda:0")
    campaign.run("unstable", 1001, 0.3, ending="crashed")
    campaign.run("slow", 1001, 0.3, ending="running")
    evaluation_id = digest_json(EVALUATION)
    with StudyJournal.of(runs) as journal:
        tree = {"phases": [{"name": "loss", "levers": ["good"]}]}
        journal.tree(digest=digest_json(tree), tree=tree)
        journal.phase(tree_digest=digest_json(tree), phase="loss", what="began", why="levers good")
        for control in ("base", "moved"):
            journal.base(control_digest=control, cache_id="cache", evaluation_id=evaluation_id, stacked=[], recipe={})
        journal.stack(
            lever="good", recipe_digest="good-recipe", rule_digest=second.digest(), control_digest="base",
            cache_id="cache", evaluation_id=evaluation_id, changes={}, new_control_digest="moved", replicate_seed=1004,
            effect=0.04,
        )  # fmt: skip
        journal.screen(
            screen="screen1", rule_digest=second.digest(), control_digest="moved", cache_id="cache",
            evaluation_id=evaluation_id, sigma=0.014, sigma_df=7, bar=0.01, guard=2.0,
            levers=[{"lever": "good", "recipe_digest": "good-recipe"}], weights=[[-1.0, 1.0]], excluded={},
            rows=[
                {"name": name, "seed": 5001, "recipe_digest": f"{name}-recipe", "levers": on}
                for name, on in {"screen1_row1": [], "screen1_row2": ["good"]}.items()
            ],
        )  # fmt: skip
    ingest(ledger, runs)
    campaign.run("screen1_row1", 5001, 0.40, control="moved")
    ingest(ledger, runs)
    return ledger


@pytest.mark.parametrize("name", FILES)
def test_a_view_opens_with_its_grain_and_has_one_row_of_it(judged: Path, name: str) -> None:
    found = GRAIN.match(text_of(name))
    assert found, "the first line says `-- grain: one row per COLUMN, COLUMN`, the second explains"
    rows = read(judged, f"select {found[1]}, count(*) as num_rows from {name} group by all having num_rows > 1").rows
    assert rows == []


NEVER_HERE = {"unfounded_stacks", "reversed_decisions"}
"""Views that have no rows in a ledger that nobody tampered with."""


def test_every_grain_was_put_to_the_test(judged: Path) -> None:
    with open_ledger(judged, read_only=True) as connection:
        empty = {name for name in FILES if not connection.execute(f"select 1 from {name} limit 1").fetchall()}
    assert empty - NEVER_HERE == set()


def test_the_text_of_a_view_gives_the_view_back(judged: Path) -> None:
    """As DuckDB prints them, all are made anew, each reading the new ones below it, and answer the same."""
    with open_ledger(judged, read_only=True) as connection:
        connection.execute("set threads = 1")
        texts = dict(connection.execute("select view_name, sql from duckdb_views() where not internal").fetchall())
        again = connection.cursor()
        for name in FILES:
            again.execute(re.sub("^CREATE VIEW", "create temp view", texts[name]))
        assert [name for name in FILES if answer_of(connection, name) != answer_of(again, name)] == []


def test_a_view_has_a_greater_number_than_all_that_it_reads() -> None:
    numbers = {name: int(file.name.split("_")[0]) for name, file in FILES.items()}
    assert len(set(numbers.values())) == len(numbers)
    for name in FILES:
        own = set(re.findall(r"(?:with|,)\s+(\w+) as (?:materialized )?\(", code_of(name)))
        named = set(re.findall(r"(?:from|join) (\w+)", code_of(name))) & FILES.keys() - own
        assert {other for other in named if numbers[other] >= numbers[name]} == set(), name


@pytest.mark.parametrize("name", FILES)
def test_no_view_compares_with_a_word_that_flowlab_does_not_have(name: str) -> None:
    compared = re.findall(
        r"(?:=|<>|when|is distinct from) '([a-z_-]+)'(?! \|\|)", re.sub(r"then '[^']*'", "", code_of(name))
    )
    for listed in re.findall(r" in \(([^()]*)\)", code_of(name)):
        compared += re.findall(r"'([^']+)'", listed)
    assert set(compared) <= WORDS


@pytest.mark.parametrize("name", FILES)
def test_no_view_repeats_what_a_base_is_made_of(judged: Path, name: str) -> None:
    columns = set(read(judged, f"select * from {name} limit 0").columns)
    assert len(columns & {"control_digest", "cache_id", "evaluation_id"}) <= 1


def documented() -> dict[str, list[str]]:
    """The columns that docs/views.md lists for each view, in order: `- **name**: `a, b, c`.`"""
    found = re.findall(r"^- \*\*(\w+)\*\*: `([\w, \n]+)`", DOCS.read_text(), re.MULTILINE)
    return {name: re.split(r",\s+", columns.strip()) for name, columns in found}


@pytest.mark.parametrize("name", sorted(FILES.keys() - LINKS))
def test_the_documented_columns_are_those_of_the_view(judged: Path, name: str) -> None:
    assert documented().get(name) == read(judged, f"select * from {name} limit 0").columns


def test_the_links_are_named_and_nothing_is_documented_that_is_not_there() -> None:
    assert documented().keys() == FILES.keys() - LINKS
    assert {name for name in LINKS if f"**{name}**" not in DOCS.read_text()} == set()


def test_verdicts_read_the_metrics_once_and_once_more_for_screens(judged: Path) -> None:
    """Where there are no screens, the second reading reads next to nothing: see screen_runs."""
    with open_ledger(judged, read_only=True) as connection:
        ((_, plan),) = connection.execute("explain (format json) select * from verdicts").fetchall()
    tables = re.findall(r'"Table":\s*"[^"]*\.(\w+)"', plan)
    assert tables.count("metrics") == 2
    assert len(tables) <= 60
