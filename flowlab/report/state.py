"""The state of a campaign, and what to know of it this morning, in a few sentences."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from flowlab.core.figures import figure, share
from flowlab.core.vocabulary import CONTROL
from flowlab.ledger.unread import count_unread
from flowlab.report.campaign import Campaign
from flowlab.study.slices import frame_slices
from flowlab.verdict.judge import Verdict, read_broken_panels, read_owed
from flowlab.verdict.record import read_reversals

PHASES = "select phase, sum(seconds) as seconds from run_times group by phase order by seconds desc"
MOST_NAMED = 4
"""Names in one sentence."""


@dataclass(frozen=True)
class Phase:
    """One phase of the loop's tree: what it was last said to have done (began, ended), and why."""

    name: str
    what: str
    why: str
    time_us: int | None


@dataclass(frozen=True)
class State:
    """What stands at the top of a report."""

    base: str
    rule: str
    sealed_us: int | None
    counts: list[tuple[str, int]]  # status and number of runs
    owed: list[str]  # lever@seed
    phases: list[tuple[str, float]]  # phase and seconds, the longest first
    total_s: float
    first_us: int | None
    last_us: int | None
    tree: list[Phase]
    news: list[tuple[str, str]]  # kind (good, bad, fact, warning) and a sentence


def read_state(campaign: Campaign) -> State:
    """The campaign as it stands."""
    in_force = campaign.rule_in_force
    statuses = Counter(run["status"] for run in campaign.runs)
    phases = campaign.ask(PHASES)
    owed = [f"{run.lever}@{run.seed}" for run in read_owed(campaign.ledger)]
    seen = [run["last_seen_us"] for run in campaign.runs]
    return State(
        base=campaign.base_name(campaign.present_base) if campaign.present_base else CONTROL,
        rule=in_force.rule.name if in_force else "",
        sealed_us=in_force.sealed_us if in_force else None,
        counts=[(name, statuses[name]) for name in sorted(statuses, key=lambda name: (name != "finished", name))],
        owed=owed,
        phases=[(row["phase"], row["seconds"]) for row in phases],
        total_s=sum(row["seconds"] for row in phases),
        first_us=min((run["registered_us"] for run in campaign.runs), default=None),
        last_us=max(seen, default=None),
        tree=_tree(campaign),
        news=_news(campaign, owed),
    )


def _tree(campaign: Campaign) -> list[Phase]:
    """The phases of the tree that is registered now, in its order; none where no loop has run."""
    trees = campaign.ask("select tree_digest, tree_json from trees order by entry desc, time_us desc limit 1")
    if not trees:
        return []
    said = "select phase, what, why, time_us from tree_phases where tree_digest = ? order by entry, time_us"
    last = {row["phase"]: row for row in campaign.ask(said, [trees[0]["tree_digest"]])}
    names = [phase["name"] for phase in json.loads(trees[0]["tree_json"])["phases"]]
    waits = {"what": "waits", "why": "", "time_us": None}
    told = [(name, last.get(name, waits)) for name in names]
    return [Phase(name, row["what"], row["why"], row["time_us"]) for name, row in told]


def listed(names: list[str]) -> str:
    """ "a, b and c"; of many the first four and how many more there are."""
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _news(campaign: Campaign, owed: list[str]) -> list[tuple[str, str]]:
    """What was decided, what went wrong, what is wanted next, and what to be careful with."""
    return [
        *_decided(campaign),
        *[("bad", sentence) for sentence in _crashed(campaign)],
        *[("fact", f"Wanted next: {listed(owed)} (flowlab run --owed).") for _ in owed[:1]],
        *[("warning", sentence) for sentence in _warnings(campaign)],
    ]


def _decided(campaign: Campaign) -> list[tuple[str, str]]:
    in_force = campaign.rule_in_force
    if in_force is None:
        imported = sum(run["origin"] is not None for run in campaign.runs)
        told = f" {imported} of {len(campaign.runs)} runs were imported: they are shown, and never stack." * bool(
            imported
        )
        return [("fact", f"No rule is sealed, so nothing is decided.{told}")]
    newest = {row.lever: campaign.decision_of(row.lever) for row in campaign.verdicts if _is_of(row, in_force.digest)}
    by: dict[str, list[Verdict]] = {}
    for row in newest.values():
        if row is not None and row.rule_digest == in_force.digest:
            by.setdefault(row.decision, []).append(row)
    stacked = campaign.bases[campaign.present_base].stacked if campaign.present_base else ()
    news = []
    if stacked:
        news.append(("good", f"In the base now: {listed(list(stacked))}."))
    ready = [f"{row.lever} ({row.effect or 0:+.4f})" for row in by.get("stack", []) if row.lever not in stacked]
    if ready:
        news.append(("good", f"The rule says stack of {listed(ready)}. Such effects are selected, so they flatter."))
    if by.get("drop"):
        names = listed([row.lever for row in by["drop"]])
        news.append(("fact", f"Dropped, not shown at this budget: {len(by['drop'])} ({names})."))
    if by.get("undecided"):
        news.append(("fact", f"Undecided: {listed([row.lever for row in by['undecided']])}."))
    null = (in_force.simulated or {}).get("rates", {}).get("null_stacked")
    if null is not None and newest:
        told = f"This rule stacks {share(null)} of levers that do nothing: of {len(newest)} judged, up to "
        news.append(("fact", f"{told}{null * len(newest):.2g} such are expected."))
    return news or [("fact", f"Rule {in_force.rule.name} is sealed, and has judged no lever yet.")]


def _is_of(row: Verdict, digest: str) -> bool:
    return row.rule_digest == digest


def _crashed(campaign: Campaign) -> list[str]:
    crashed = [run for run in campaign.runs if run["status"] == "crashed"]
    told = [f"{run['run_id']} at step {run['last_step']}: {run['reason']}" for run in crashed[:MOST_NAMED]]
    more = [f"{len(crashed) - MOST_NAMED} more runs crashed."] if len(crashed) > MOST_NAMED else []
    return [f"Crashed: {one}" for one in told] + more


def _warnings(campaign: Campaign) -> list[str]:
    """Everything that makes a number above worth less than it looks."""
    ledger, ask = campaign.ledger, campaign.ask
    found = [
        f"{row.lever} was recorded as {row.recorded}, and is {row.decision} by the views as they are now: look with "
        f"flowlab ledger verify."
        for row in (read_reversals(ledger) if "recorded_verdicts" in campaign.filled else [])
    ]
    unfounded = "select lever, decision from unfounded_stacks order by entry"
    for row in ask(unfounded) if "stacks" in campaign.filled else []:
        found.append(f"{row['lever']} is stacked, and its rule says {row['decision'] or 'nothing'} of it.")
    for rule, seeds in read_broken_panels(ledger).items():
        found.append(f"Rule {rule} can stack nothing: its control crashed at {listed([str(seed) for seed in seeds])}.")
    found += [
        row["reason"] for row in ask("select reason from control_luck where is_unlucky or is_lucky order by seed")
    ]
    past = ask("select run_id from run_health where is_past_best order by run_id")
    if past:
        what = "1 run" if len(past) == 1 else f"{len(past)} runs"
        found.append(f"{what} learnt past the best validation error: {listed([row['run_id'] for row in past])}.")
    found += _worse(campaign)
    unread = count_unread(ledger, campaign.study.runs)
    if unread:
        found.append(f"{unread:,} lines of journals are not in the ledger yet, and not in this page.")
    in_force = campaign.rule_in_force
    if in_force is not None and campaign.study.rule.terms() != in_force.rule.terms():
        found.append(f"experiments.toml has rule {campaign.study.rule.name} now otherwise than the one in force.")
    return found


def _worse(campaign: Campaign) -> list[str]:
    """Policies that are worse than none, slice by slice, of the rule in force on the present base."""
    in_force = campaign.rule_in_force
    asked: list[Any] = [in_force.digest if in_force else "", campaign.present_base]
    question = (
        "select * from worse_than_baselines where rule_digest = ? and base_id = ? order by slice, baseline, lever"
    )
    found: dict[tuple[str, str, float], list[str]] = {}
    for row in campaign.ask(question, asked):
        key = (row["slice"], row["baseline"], row["baseline_value"])
        found.setdefault(key, []).append(f"{row['lever']} {figure(row['value'])}")
    frames = frame_slices(campaign.study.slices)
    return [
        f"On {where} {_are(len(levers))} worse than {baseline} ({figure(value)}): {listed(levers)}."
        for (where, baseline, value), levers in found.items()
        if where in frames
    ]


def _are(number: int) -> str:
    return "1 policy is" if number == 1 else f"{number} policies are"
