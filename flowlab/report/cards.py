"""A card for each lever: what it was thought to do, what it changes, what became of it, and how to do it again."""

import hashlib
import shlex
from dataclasses import dataclass, field
from typing import Any

from flowlab.core.digest import canonical_json
from flowlab.core.errors import FlowlabError
from flowlab.core.figures import duration
from flowlab.core.vocabulary import CONTROL, SCORED_FROM
from flowlab.report.campaign import ORDER, Campaign, Record, seed_text
from flowlab.report.curves import Curve, Plot, draw, read_curves
from flowlab.study.document import FILE_NAME
from flowlab.study.lever import flat_keys
from flowlab.verdict.judge import Verdict

MOST_CHANGES = 12
MOST_TOLD = 3


@dataclass(frozen=True)
class RunCard:
    """One run within its lever's card."""

    run: Record
    value: float | None  # on the primary metric
    facts: list[str]
    command: str
    told: list[str]  # digests and revision, for who wants the same bits again
    notes: list[str]
    tags: list[str]


@dataclass(frozen=True)
class Card:
    """One lever, or one screen's rows."""

    name: str
    verdict: Verdict | None
    decision: str
    hypothesis: str
    changes: list[tuple[str, str, str]]  # key, the control's value, the lever's
    notes: list[str]
    tags: list[str]
    plots: list[Plot]
    runs: list[RunCard] = field(default_factory=list)


def read_cards(campaign: Campaign) -> list[Card]:
    """The control's card, then levers as a board has them, then screens."""
    facts = _Facts(campaign)
    groups: dict[tuple[bool, str], list[Record]] = {}
    for run in campaign.runs:
        screen = campaign.screen_of.get(run["run_id"])
        groups.setdefault((screen is not None, screen or run["lever"]), []).append(run)
    cards = [facts.card(name, runs, is_screen) for (is_screen, name), runs in groups.items()]
    alone = dict.fromkeys(row.lever for row in campaign.verdicts if (False, row.lever) not in groups)
    cards += [facts.screened(lever) for lever in alone]
    return sorted(cards, key=lambda card: (card.name != CONTROL, ORDER.get(card.decision, 4), not card.runs, card.name))


class _Facts:
    """What is read once for all cards."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.curves = read_curves(campaign)
        self.file_digest = hashlib.sha256((campaign.study.root / FILE_NAME).read_bytes()).hexdigest()[:16]
        attempts = campaign.ask("select * from attempts order by run_id, attempt")
        self.attempts = {row["run_id"]: row for row in attempts}
        self.seconds = {row["run_id"]: row["seconds"] for row in campaign.ask(SECONDS)}
        self.healths = {row["run_id"]: row for row in campaign.ask("select * from run_health")}
        self.notes: dict[tuple[str, str], list[str]] = {}
        for row in campaign.ask("select about, subject, note from notes order by entry, time_us"):
            self.notes.setdefault((row["about"], row["subject"]), []).append(row["note"])
        self.tags: dict[tuple[str, str], dict[str, str]] = {}
        for row in campaign.ask(TAGS):
            self.tags.setdefault((row["about"], row["subject"]), {})[row["taxonomy"]] = row["value"]
        for row in campaign.ask("select lever, outcome from outcomes where outcome is not null and lever <> 'control'"):
            self.tags.setdefault(("lever", row["lever"]), {})["outcome"] = row["outcome"]
        scored = campaign.ask("select run_id, value from tags where taxonomy = ? order by all", [SCORED_FROM])
        self.sources = {row["run_id"]: row["value"] for row in scored}

    def card(self, name: str, runs: list[Record], is_screen: bool) -> Card:
        verdict = None if is_screen else self.campaign.decision_of(name)
        own = [self.curves.get(run["run_id"], {}) for run in runs]
        plots = []
        for kind in ("validation", "loss"):
            curves: list[Curve] = [found[kind] for found in own if kind in found]
            title = "training loss" if kind == "loss" else f"validation {curves[0].metric}" if curves else ""
            plot = draw(title, curves)
            plots += [plot] if plot else []
        newest = runs[-1]
        return Card(
            name,
            verdict,
            "screen" if is_screen else verdict.decision if verdict else "control" if name == CONTROL else "",
            next((run["hypothesis"] for run in reversed(runs) if run["hypothesis"]), "") if not is_screen else "",
            [] if is_screen or name == CONTROL else self._changes(newest),
            self.notes.get(("lever", name), []),
            self._tags("lever", name),
            plots,
            [self._run(run) for run in runs],
        )

    def screened(self, lever: str) -> Card:
        """A lever that ran in screens alone: what experiments.toml says of it, if it has it still."""
        verdict = self.campaign.decision_of(lever)
        settings = self.campaign.study.file.levers.get(lever)
        changes = [(key, "", _shown(value)) for key, value in sorted((settings.set if settings else {}).items())]
        about = ("lever", lever)
        told = self.notes.get(about, []), self._tags(*about)
        decision = verdict.decision if verdict else ""
        return Card(lever, verdict, decision, settings.hypothesis if settings else "", changes, *told, [])

    def _tags(self, about: str, subject: str) -> list[str]:
        return [f"{taxonomy}: {value}" for taxonomy, value in self.tags.get((about, subject), {}).items()]

    def _changes(self, run: Record) -> list[tuple[str, str, str]]:
        """What the lever changes, beside what its control had."""
        settings = self.campaign.settings
        control = next((other for other in self.campaign.runs if _is_control_of(other, run)), None)
        theirs = settings.get(control["run_id"], {}) if control else {}
        ours = settings.get(run["run_id"], {})
        found: list[tuple[str, str, str]] = []
        if run["origin"]:
            return found  # of a recipe that nobody wrote down in our words
        for key in sorted(run["changed_keys"])[:MOST_CHANGES]:
            found.append((key, _shown(theirs.get(key)) if control else "?", _shown(ours.get(key))))
        more = len(run["changed_keys"]) - MOST_CHANGES
        return found + ([(f"and {more} more keys", "", "")] if more > 0 else [])

    def _run(self, run: Record) -> RunCard:
        run_id = run["run_id"]
        attempt = self.attempts.get(run_id, {})
        told = [f"recipe {run['recipe_digest']}", f"control {run['control_digest']}", f"cache {run['cache_id']}"]
        if attempt.get("git_revision"):
            told.append(f"git {attempt['git_revision']}")
        told.append(f"{FILE_NAME} {self.file_digest}{self._moved(run)}")
        if run["base_id"] != self.campaign.present_base and not run["origin"]:
            stacked = ", ".join(self.campaign.bases[run["base_id"]].stacked)
            told.append(f"of an earlier base: needs study.stacked = [{stacked}]")
        return RunCard(
            run,
            self.campaign.values.get(run_id),
            self._about(run, attempt.get("device", "")),
            self._command(run),
            told,
            self.notes.get(("run", run_id), []),
            self._tags("run", run_id),
        )

    def _about(self, run: Record, device: str) -> list[str]:
        """Seed, state and purpose where they are not the usual ones, health, and time."""
        seconds = self.seconds.get(run["run_id"])
        time = "" if seconds is None else f"{duration(seconds)}{f' on {device}' if device else ''}"
        status = run["status"] if run["status"] != "finished" else ""
        return [part for part in (seed_text(run["seed"]), status, run["purpose"], self._health(run), time) if part]

    def _health(self, run: Record) -> str:
        """Where the validation error was least, beside how far the run went."""
        found = self.healths.get(run["run_id"])
        if found is None:
            return ""
        best = (
            f"best {found['metric']} {found['best_value']:.4f} at step {found['best_step']:,} of {found['num_steps']:,}"
        )
        return f"{best}, learnt past its best" if found["is_past_best"] else best

    def _command(self, run: Record) -> str:
        """What trains the same run once more, "" where no command does."""
        lever, seed = run["lever"], run["seed"]
        if run["origin"]:
            return ""
        if run["run_id"] in self.sources:
            return f"flowlab evaluate {self.sources[run['run_id']]}"
        if run["run_id"] in self.campaign.screen_of:
            return "flowlab screen"
        if run["purpose"] == "full-path":
            return f"flowlab confirm {lever if lever != CONTROL else 'stack'} --seed {seed}"
        if run["purpose"] == "exploratory":
            return self._explored(run)
        return f"flowlab run --lever {lever} --seeds {seed}{' --again' if run['replicate'] else ''}"

    def _explored(self, run: Record) -> str:
        """What explores the same change once more: from the lever that it started from, if that is still there."""
        levers, own = self.campaign.study.file.levers, self.campaign.settings.get(run["run_id"], {})
        start = next((name for name in levers if run["lever"].startswith(f"{name}-set-")), None)
        before = dict(flat_keys(levers[start].set)) if start else {}
        changes = [
            f" --set {shlex.quote(f'{key}={_shown(own.get(key))}')}"
            for key in run["changed_keys"]
            if key not in before or before[key] != own.get(key)
        ]
        return f"flowlab run{f' --lever {start}' if start else ''} --seeds {run['seed']}{''.join(changes)}"

    def _moved(self, run: Record) -> str:
        """What the file says otherwise now than when the run was registered, as the end of a sentence."""
        if run["origin"] or run["run_id"] in self.campaign.screen_of or run["purpose"]:
            return ""
        study, own = self.campaign.study, self.campaign.settings.get(run["run_id"], {})
        try:
            setup = study.with_stacked(self.campaign.bases[run["base_id"]].stacked).setup(run["lever"])
        except FlowlabError:
            return ", which no longer has this lever"
        now = dict(flat_keys(setup.to_json()))
        moved = [key for key in own if key in now and canonical_json(now[key]) != canonical_json(own[key])]
        told = ", ".join(f"{key} = {_shown(now[key])}" for key in moved[:MOST_TOLD])
        return f", where by now {told}{' and more' if len(moved) > MOST_TOLD else ''}" if moved else ""


TAGS = """
    select 'run' as about, run_id as subject, taxonomy, value, 0 as place from tags where taxonomy = 'outcome'
    union all
    select about, subject, taxonomy, value, row_number() over (order by entry, time_us) as place from said_tags
    order by place"""
"""What a run was tagged, and then what people said of runs and levers; the last of a taxonomy counts."""

SECONDS = "select run_id, sum(seconds) as seconds from run_times group by run_id"


def _is_control_of(other: Record, run: Record) -> bool:
    return other["lever"] == CONTROL and other["base_id"] == run["base_id"]


def _shown(value: Any) -> str:
    return "-" if value is None else canonical_json(value)
