"""A run of W&B while its columns or records are read."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flowlab.interop.foreign import FINISHED, ForeignRun, Points, flat
from flowlab.interop.foreign_table import Numbers

if TYPE_CHECKING:
    import polars


@dataclass
class WandbRun:
    """What is known of it so far. Values by key and step, as they came."""

    name: str
    label: str | None = None
    status: str = FINISHED
    said: str = "no status in an export"
    params: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)  # that may name a lever, beside the params
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    unsure: set[str] = field(default_factory=set)  # keys of which a later value may have been lost
    started_us: int | None = None
    ended_us: int | None = None

    def foreign(self, run_id: str, lever_from: str | None) -> ForeignRun:
        """The run, named after its label where something else than its name names levers."""
        points = Points(
            {key: dict(sorted(at.items())) for key, at in self.values.items()},
            self.left_out,
            dict.fromkeys(self.unsure & self.values.keys()),
        )
        label: str | None = self.name
        if lever_from is not None:
            known = {**self.facts, **dict(flat(self.params))}
            label = self.label or (str(known[lever_from]) if lever_from in known else None)
        return ForeignRun(
            run_id=run_id,
            name=self.name,
            label=label,
            status=self.status,
            said=self.said,
            params=self.params,
            keys=tuple(self.values),
            read=lambda: points,
            started_us=self.started_us,
            ended_us=self.ended_us,
        )


def add_points(
    runs: dict[str, WandbRun], key: str, rows: "polars.DataFrame", numbers: Numbers, torn: dict[int, str]
) -> None:
    """Give the numbers of one column to their runs.

    `rows` has one row for each of the table: `row`, `run` (the one before it where it has none), `step`, and `is_whole`
    for those that have both. What stands in another row is lost, and with it what the key ended with, if it was later.
    """
    import polars

    found = rows.with_columns(value=numbers.values, other=numbers.others)
    is_filled = polars.col("value").is_not_null() | polars.col("other")
    last_rows: dict[str, int] = {}
    for (run,), logged in found.filter(is_filled & polars.col("is_whole")).group_by("run", maintain_order=True):
        if run not in runs:
            continue
        last_rows[run] = logged["row"][-1]
        if num_others := int(logged["other"].sum()):
            runs[run].left_out[key, "that are no numbers"] += num_others
        points = logged.drop_nulls("value")
        if len(points):
            runs[run].values[key] = dict(zip(points["step"], points["value"], strict=True))
    is_lost = ~polars.col("is_whole") & (is_filled | polars.col("row").is_in(list(torn)))
    for row, run in found.filter(is_lost)["row", "run"].rows():
        if row > last_rows.get(run, row):
            runs[run].unsure.add(key)
