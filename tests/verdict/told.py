"""Lines of journals told straight to a ledger in memory, each an entry of its own: in an order that a test decides.

Much quicker than files; what ingestion does with those has tests of its own.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowlab.core.digest import digest_json
from flowlab.journal.journal import Line
from flowlab.ledger.rows import RUN_KINDS, Maker, rows_of
from flowlab.ledger.study_rows import STUDY_KINDS
from flowlab.ledger.writer import Writer
from flowlab.study.rule import Rule
from tests.verdict.campaign import EVALUATION, FLAT, PRIMARY

if TYPE_CHECKING:
    import duckdb

PLACE = {"cache_id": "cache", "evaluation_id": digest_json(EVALUATION)}
KEPT = ("alembic_version", "views_applied")


class Told:
    """Rules, runs and screens as journals tell them, on the base of the control recipe "base" where nothing is said."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection") -> None:
        self.connection, self.writer = connection, Writer(connection)
        self.entry, self.rows, self.primary = 0, dict[str, list[dict]](), PRIMARY

    def forget(self) -> None:
        """Empty all tables."""
        self.entry, self.rows = 0, {}
        tables = self.connection.execute("select table_name from duckdb_tables() where not internal").fetchall()
        for (table,) in tables:
            if table not in KEPT:
                self.connection.execute(f"delete from {table}")

    def tell(self, makers: Mapping[str, Maker], place: dict, *lines: dict) -> None:
        """Lines that come in together, as the next entry."""
        self.entry += 1
        for position, fields in enumerate(lines):
            for table, row in rows_of(Line(position, fields | {"time_us": self.entry}), place, makers):
                self.rows.setdefault(table, []).append(row | {"entry": self.entry})

    def study(self, kind: str, **fields: Any) -> None:
        """A line of the study's journal."""
        self.tell(STUDY_KINDS, {"journal": "study.jsonl", "run_id": None}, {"kind": kind} | fields)

    def seal(self, rule: Rule, calibration: str | None = None) -> Rule:
        """The rule, sealed; `calibration` is the digest of its design where that was registered before."""
        self.primary = rule.primary
        more = {} if calibration is None else {"calibration": calibration}
        self.study("seal", digest=rule.digest(), rule=rule.to_json(), **more)
        return rule

    def amend(self, rule: Rule, old: Rule) -> Rule:
        self.study("amend", digest=rule.digest(), rule=rule.to_json(), amended_digest=old.digest(), reason="why")
        return rule

    def calibrate(self, rule: Rule) -> str:
        """Registers the rule's design, and gives its digest."""
        self.study("calibrate", digest=rule.design_digest(), design=rule.design())
        return rule.design_digest()

    def base(self, control: str = "base") -> None:
        self.study("base", control_digest=control, stacked=[], recipe={}, **PLACE)

    def screen(
        self, rule: Rule, rows: dict[str, tuple[str, ...]], weights: dict[str, list[float]], **changes: Any
    ) -> None:
        """Screen `screen1`: sigma 0.014, bar 0.010, guard 2; its rows, at seeds 5001, ..., have these levers on."""
        own = {
            "screen": "screen1",
            "control_digest": "base",
            "sigma": 0.014,
            "sigma_df": 15,
            "bar": 0.010,
            "guard": 2.0,
        }
        levers = [{"lever": lever, "recipe_digest": f"{lever}-recipe"} for lever in weights]
        told = [
            {"name": name, "seed": 5000 + at, "recipe_digest": f"{name}-recipe", "levers": list(on)}
            for at, (name, on) in enumerate(rows.items(), start=1)
        ]
        body = {"levers": levers, "rows": told, "weights": list(weights.values()), "excluded": {}}
        self.study("screen", **({"rule_digest": rule.digest()} | PLACE | own | body | changes))

    def weights(self, solution: int, rows: list[str], weights: dict[str, list[float]], screen: str = "screen1") -> None:
        """Weights that were solved anew, over these rows alone."""
        levers, numbers = list(weights), list(weights.values())
        self.study("weights", screen=screen, solution=solution, levers=levers, rows=rows, weights=numbers)

    def run(
        self,
        lever: str,
        seed: int,
        value: float | None,
        *,
        flat: float = 0.1,
        control: str = "base",
        recipe: str = "",
        ending: str = "finished",
        origin: str | None = None,
        **changes: Any,
    ) -> None:
        """A run that ended with `value` on the primary metric; `ending` is finished, crashed or running."""
        recipe = recipe or (control if lever == "control" else f"{lever}-recipe")
        run_id = f"run-{self.entry + 1}"
        registered = {
            "run_id": run_id, "study": "test", "lever": lever, "seed": seed, "replicate": 0, "recipe": {},
            "recipe_digest": recipe, "control_digest": control, "evaluation": EVALUATION, "origin": origin,
            "changed_keys": [], "hypothesis": "", "tags": [],
        }  # fmt: skip
        numbers = {self.primary: value, FLAT: flat}
        rows = [[of.metric, of.channel, of.slice, of.readout, x, -1] for of, x in numbers.items() if x is not None]
        lines = [{"kind": "registered"} | PLACE | registered | changes, {"kind": "metrics", "rows": rows}]
        endings = {"finished": [{"kind": "finished"}], "crashed": [{"kind": "crashed", "reason": "NaN", "step": 3}]}
        self.tell(RUN_KINDS, {"journal": f"{run_id}/journal.jsonl", "run_id": run_id}, *lines, *endings.get(ending, []))

    def controls(self, *values: float, first_seed: int = 1001, **changes: Any) -> None:
        """Controls at seeds from `first_seed` on."""
        for seed, value in enumerate(values, start=first_seed):
            self.run("control", seed, value, **changes)

    def lever(self, name: str, *values: float, first_seed: int = 1001, **changes: Any) -> None:
        """A lever's runs at seeds from `first_seed` on."""
        for seed, value in enumerate(values, start=first_seed):
            self.run(name, seed, value, **changes)

    def ask(self, question: str) -> list[tuple]:
        """The rows of `select QUESTION`, once all that was told is in."""
        for table, rows in self.rows.items():
            columns = {column: None for row in rows for column in row}
            self.writer.insert(table, [dict.fromkeys(columns) | row for row in rows])
        self.rows = {}
        return self.connection.execute(f"select {question}").fetchall()
