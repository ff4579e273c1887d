"""The verdict board: each lever's seeds beside the panel, its effect with what that is worth, guardrails, decision."""

from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

from flowlab.core.figures import figure
from flowlab.core.vocabulary import CONTROL
from flowlab.report.campaign import ORDER, Campaign, Record
from flowlab.verdict.history import SealedRule
from flowlab.verdict.judge import Verdict
from flowlab.verdict.meanings import flattery

Seen = tuple[int, float, bool]
"""A run: its seed, its primary value, and whether the rule looks at it."""

ROOM = 0.04
"""Of the axis, left free on both sides of what is drawn."""


@dataclass(frozen=True)
class Dot:
    """One finished run on the primary metric; hollow where the rule does not look at it."""

    seed: int
    value: float
    is_judged: bool
    place: float  # percent of the axis


@dataclass(frozen=True)
class Row:
    """One lever of a board."""

    lever: str
    dots: list[Dot]
    screened: tuple[float, float, float] | None  # low, middle and high of what a screen tells, percent of the axis
    mean: float | None
    effect: float | None
    honesty: str  # what the effect is worth, in words
    guards: list[Record]
    decision: str
    stage: str
    reason: str
    owed: str


@dataclass(frozen=True)
class Board:
    """One rule on one base: the panel, and every lever that was judged beside it. Lower places are further left."""

    rule: SealedRule | None  # None: none is sealed
    base: str
    is_present: bool
    control: list[Dot]
    mean: float | None
    sd: float | None
    panel: str
    band: tuple[float, float] | None  # from and to, percent of the axis
    middle: float | None
    marks: list[tuple[str, float, float]]  # what needs no policy: name, value, place
    ticks: list[tuple[str, float]]
    rows: list[Row]


def read_boards(campaign: Campaign) -> list[Board]:
    """A board for each rule and base with levers, the rule in force on the newest base first.

    Bases on which nothing is judged yet (imported runs, before a rule is sealed, after a stack) come last.
    """
    order = list(campaign.bases)
    judged = list(dict.fromkeys((row.rule_digest, row.base_id) for row in campaign.verdicts))
    sealed = {rule.digest: rule for rule in campaign.rules}
    judged.sort(key=lambda pair: (sealed[pair[0]].is_in_force, order.index(pair[1])), reverse=True)
    boards = [_board(campaign, sealed[digest], base_id) for digest, base_id in judged]
    seen = {base_id for _, base_id in judged}
    ran = {run["base_id"] for run in campaign.runs if run["run_id"] in campaign.values}
    rule = campaign.rule_in_force
    return boards + [_board(campaign, rule, base_id) for base_id in reversed(order) if base_id in ran - seen]


def _board(campaign: Campaign, rule: SealedRule | None, base_id: str) -> Board:
    facts = _Facts(campaign, rule, base_id)
    verdicts = [row for row in campaign.verdicts if rule and (row.rule_digest, row.base_id) == (rule.digest, base_id)]
    mean, sd, panel = facts.panel()
    marks = campaign.ask(
        """
        select readout, value from baselines
        where base_id = ? and metric = ? and channel = ? and slice = ? and drive = ?""",
        [base_id, *_where(campaign)],
    )
    runs = facts.runs
    control = [dot for (lever, _), found in runs.items() if lever == CONTROL for dot in found]
    own = {key: found for key, found in runs.items() if key[0] != CONTROL}
    shown = [value for found in runs.values() for _, value, _ in found]
    band = [mean - sd, mean + sd] if mean is not None and sd is not None else []
    axis = _Axis(shown + band + facts.estimates(mean), [row["value"] for row in marks])
    if verdicts:
        rows = [
            facts.row(verdict, own.get((verdict.lever, verdict.recipe_digest), []), mean, axis) for verdict in verdicts
        ]
    else:
        rows = [facts.unjudged(lever, found, mean, axis) for (lever, _), found in own.items()]
    rows.sort(key=lambda row: (ORDER[row.decision], row.effect is None, -(row.effect or 0.0), row.lever))
    return Board(
        rule,
        campaign.base_name(base_id),
        base_id == campaign.present_base,
        axis.dots(control),
        mean,
        sd,
        panel,
        (axis.place(band[0]), axis.place(band[1])) if band else None,
        None if mean is None else axis.place(mean),
        [(row["readout"], row["value"], axis.place(row["value"])) for row in marks if axis.holds(row["value"])],
        axis.ticks(),
        rows,
    )


def _where(campaign: Campaign) -> list[Any]:
    key = campaign.primary
    return [key.metric, key.channel, key.slice, key.drive or ""]


class _Facts:
    """What is read once for all rows of a board."""

    def __init__(self, campaign: Campaign, rule: SealedRule | None, base_id: str) -> None:
        self.campaign, self.rule, self.base_id = campaign, rule, base_id
        where, asked = "where rule_digest = ? and base_id = ?", [rule.digest if rule else "", base_id]
        ask = campaign.ask
        effects = ask(f"select * from effects {where}", asked)
        self.effects = {(row["lever"], row["recipe_digest"]): row for row in effects}
        fresh = ask(f"select * from stack_effects {where}", asked) if "stacks" in campaign.filled else []
        self.fresh = {row["lever"]: row for row in fresh}
        is_screened = "screens" in campaign.filled
        screened = ask(f"select * from screen_effects {where} and is_first", asked) if is_screened else []
        self.screened = {(row["lever"], row["recipe_digest"]): row for row in screened}
        self.guards: dict[tuple[str, str], list[Record]] = {}
        for row in ask(f"select * from guardrail_results {where} order by position", asked):
            self.guards.setdefault((row["lever"], row["recipe_digest"]), []).append(row)
        self.stats = ask(f"select * from panel_stats {where} and role = 'primary'", asked)
        self.unseen = {
            row["run_id"] for row in ask("select run_id from exploratory_runs where rule_digest = ?", asked[:1])
        }

    def panel(self) -> tuple[float | None, float | None, str]:
        """Mean and sd of the panel, with a word on what it is; without a rule, of all finished controls."""
        if self.stats:
            found = self.stats[0]
            told = f"panel: {found['panel_count']} of {found['panel_size']} control seeds"
            return found["panel_mean"], found["panel_sd"], told
        values = [value for (lever, _), found in self.runs.items() if lever == CONTROL for _, value, _ in found]
        told = f"{len(values)} controls, no panel" if values else "no control here"
        return fmean(values) if values else None, stdev(values) if len(values) > 1 else None, told

    @cached_property
    def runs(self) -> dict[tuple[str, str], list[Seen]]:
        """The finished runs on this base that are no screen's, by lever and recipe."""
        panel = set(self.rule.rule.panel_seeds) if self.rule else None
        found: dict[tuple[str, str], list[Seen]] = {}
        for run in self.campaign.runs:
            value = self.campaign.values.get(run["run_id"])
            if value is None or run["base_id"] != self.base_id or run["run_id"] in self.campaign.screen_of:
                continue
            is_seen = run["replicate"] == 0 and run["purpose"] is None and run["run_id"] not in self.unseen
            if run["lever"] == CONTROL and panel is not None:
                is_seen = is_seen and run["seed"] in panel
            found.setdefault((run["lever"], run["recipe_digest"]), []).append((run["seed"], value, is_seen))
        return found

    def estimates(self, mean: float | None) -> list[float]:
        """What levers of screens would score beside the panel's mean, by what the screens tell."""
        known = [row["effect"] for row in self.screened.values() if row["effect"] is not None]
        return [] if mean is None else [mean - self.campaign.sign * effect for effect in known]

    def row(self, verdict: Verdict, runs: list[Seen], mean: float | None, axis: "_Axis") -> Row:
        """What the rule says of one lever."""
        lever = verdict.lever
        effect, honesty = self._effect(verdict)
        return Row(
            lever,
            axis.dots(runs),
            self._screened((lever, verdict.recipe_digest), mean, axis),
            verdict.lever_mean,
            effect,
            honesty,
            self.guards.get((lever, verdict.recipe_digest), []) if verdict.lever_mean is not None else [],
            verdict.decision,
            verdict.stage_reached,
            verdict.reason,
            verdict.owed,
        )

    def unjudged(self, lever: str, runs: list[Seen], mean: float | None, axis: "_Axis") -> Row:
        """A lever that no rule has looked at: its mean beside the controls', and nothing decided."""
        own = fmean(value for _, value, _ in runs)
        effect = None if mean is None else self.campaign.sign * (mean - own)
        origins = {run["origin"] for run in self.campaign.runs if run["lever"] == lever and run["origin"]}
        told = "imported: shown, never stacked" if origins else "no rule has looked at it"
        return Row(lever, axis.dots(runs), None, own, effect, told, [], "", "", "", "")

    def _screened(self, key: tuple[str, str], mean: float | None, axis: "_Axis") -> tuple[float, float, float] | None:
        """Where a screen's estimate of the lever lies, and one standard error on both sides of it."""
        found = self.screened.get(key)
        if found is None or found["effect"] is None or mean is None:
            return None
        middle = mean - self.campaign.sign * found["effect"]
        return axis.place(middle - found["se"]), axis.place(middle), axis.place(middle + found["se"])

    def _effect(self, verdict: Verdict) -> tuple[float | None, str]:
        """The improvement that is told of a lever, and what may be believed of it."""
        lever, key = verdict.lever, (verdict.lever, verdict.recipe_digest)
        worth = self.effects.get(key)
        if verdict.decision == "stack":
            return verdict.effect, self._of_stacked(lever)
        if worth is not None and worth["raw_effect"] is not None:
            noise = worth["seed_noise"]
            told = "not selected" if noise is None else f"not selected, seeds ±\u00a0{figure(noise)}"
            if worth["fresh_effect"] is not None:
                told += f"; fresh seeds alone {worth['fresh_effect']:+.4f}"
            return worth["raw_effect"], told
        screened = self.screened.get(key)
        if screened is not None and screened["effect"] is not None:
            told = f"in {screened['screen']} ±\u00a0{figure(screened['se'])}, needs {figure(screened['needed'])}"
            return screened["effect"], told
        if verdict.lever_mean is not None and worth is None:
            return None, "a placebo: the control under another name"
        return None, "not measured yet"

    def _of_stacked(self, lever: str) -> str:
        assert self.rule is not None
        rates = (self.rule.simulated or {}).get("rates", {})
        flattered = flattery(rates)
        told = f"selected; {flattered} under this rule" if flattered else "selected, so flattered"
        fresh = self.fresh.get(lever)
        if fresh is not None and fresh["num_pairs"] and fresh["num_pairs"] >= 2:
            told += (
                f"; {fresh['effect']:+.4f} at {fresh['num_pairs']} new seeds of both bases, which nothing selected "
                f"(standard error {figure(fresh['se'])})"
            )
        return told


class _Axis:
    """From values of the primary metric to percent of a strip's width."""

    def __init__(self, values: list[float], optional: list[float]) -> None:
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        wide = [value for value in optional if low - (high - low) <= value <= high + (high - low)]
        low, high = min([low, *wide]), max([high, *wide])
        room = ROOM * (high - low) or 0.01
        self.low, self.high = low - room, high + room

    def place(self, value: float) -> float:
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def dots(self, runs: list[Seen]) -> list[Dot]:
        return [Dot(seed, value, is_judged, self.place(value)) for seed, value, is_judged in sorted(runs)]

    def ticks(self) -> list[tuple[str, float]]:
        """A few round values, with their places."""
        from flowlab.evaluate.svg import ticks

        found = ticks(self.low, self.high, 5)
        return [(f"{value:g}", self.place(value)) for value in found if 3 < self.place(value) < 97]
