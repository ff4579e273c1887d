"""`flowlab verdict`: what the ledger says."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from flowlab.cli.grid import Grid
from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, out, plain, print_json, say, table, when
from flowlab.core.errors import BusyError, CannotWriteError
from flowlab.study.rule import Rule
from flowlab.study.slices import frame_slices
from flowlab.study.study import CONTROL, Study

if TYPE_CHECKING:
    from flowlab.verdict.bases import KnownBase
    from flowlab.verdict.history import SealedRule
    from flowlab.verdict.judge import Verdict


BELOW = ("stack_effects", "pooled_sigma", "control_luck", "baselines", "worse_than_baselines")
"""What is asked for each table of verdicts, in lines below it."""


def verdict(
    lever: Annotated[str | None, typer.Argument(metavar="[LEVER]", help="One lever only.")] = None,
    effects: Annotated[
        bool, typer.Option("--effects", help="Also what each lever looks worth: raw, fresh, noise, q-value.")
    ] = False,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the registered rule decides for every lever: pairs, deltas, panel, stage, decision, what is owed next."""
    from flowlab.ledger.connection import reading
    from flowlab.verdict.seal import tell_clock

    found = open_study(study)
    if lever is not None:
        found.require_lever(lever)
    levers = [] if lever is None else [lever]
    with reading(found.ledger):
        ingest_all(found)
        tell_clock(found.ledger, Bars())
        if as_json:
            answer: Any = read_for(found, levers)
            if effects:
                answer = {"verdicts": answer, "effects": read_effects(found, levers)}
        else:
            told = _tell_verdicts(found, levers)
    if as_json:
        print_json(answer)
    else:
        _print(told)
        if effects:
            print_effects(found, levers)
        if lever is not None:
            _print_soundness(found, lever)


def _print_soundness(study: Study, lever: str) -> None:
    """A lever's health, and what people said of it."""
    from flowlab.cli.health import health_lines
    from flowlab.cli.notes import print_said

    for line in health_lines(study, lever):
        out().print(line, soft_wrap=True)
    if study.ledger.exists():
        print_said(study, "lever", lever)


def ingest_and_copy(study: Study, bars: Bars) -> None:
    """As `ingest_all`, and bring what is new of runs to their second copy, if the study has one."""
    from flowlab.lab.copies import copy_ended

    ingest_all(study)
    for problem in copy_ended(study, bars):
        say(f"warning: {problem}")


def ingest_all(study: Study) -> None:
    """Bring what journals hold now into the ledger, record what it decides by then, and say what could not be read.

    Who may not write here, or finds another process at it, asks what the ledger has, and is told what is unread.
    """
    from flowlab.ledger.connection import reading
    from flowlab.ledger.ingest import READER_PATIENCE_S, ingest
    from flowlab.ledger.unread import count_unread
    from flowlab.verdict.record import record_decisions

    try:
        with reading(study.ledger):
            for problem in ingest(study.ledger, study.runs, Bars(), patience_s=READER_PATIENCE_S).problems:
                say(f"warning: {problem}")
            record_decisions(study.runs, study.ledger, READER_PATIENCE_S)
    except (CannotWriteError, BusyError) as error:
        num_unread = count_unread(study.ledger, study.runs)
        if num_unread:
            reason = error.short if isinstance(error, CannotWriteError) else str(error).rstrip(".")
            lines = f"{num_unread:,} lines of journals are unread" if num_unread > 1 else "1 line of journals is unread"
            say(f"note: {reason}, so {lines}: the answer is from what the ledger has")


def read_for(study: Study, levers: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the view verdicts as records, of these levers; of all for none, or with the control among them.

    `flowlab run --lever control` asks with the control; `flowlab verdict` takes levers only.
    """
    return [asdict(row) for row in _read(study, levers)]


def print_verdicts(study: Study, levers: Sequence[str]) -> None:
    """One table per rule and base, then each lever's reason. Which levers: as `read_for`."""
    _print(_tell_verdicts(study, levers))


def _tell_verdicts(study: Study, levers: Sequence[str]) -> str:
    """What `print_verdicts` prints: apart, so that whoever reads it in a pager does not keep the ledger from others."""
    from flowlab.ledger.connection import reading

    console = out()
    with reading(study.ledger), console.capture() as told:
        _write_verdicts(study, levers, console)
    return told.get()


def _print(text: str) -> None:
    stdout = out().file
    stdout.write(text)
    stdout.flush()


def _write_verdicts(study: Study, levers: Sequence[str], console: Console) -> None:
    from flowlab.ledger.connection import compute_once
    from flowlab.verdict.bases import read_bases

    rows = _read(study, levers)
    if not rows:
        say("no lever has a run that the rule judges yet. Try one: flowlab run --lever NAME --seeds A,B")
        return
    from flowlab.verdict.meanings import meanings

    compute_once(study.ledger, *BELOW)
    rules = _sealed(study)
    bases = read_bases(study)
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for row in sorted(rows, key=lambda row: (list(rules).index(row.rule_digest), list(bases).index(row.base_id))):
        groups.setdefault((row.rule_digest, row.base_id), []).append(row)
    for together in groups.values():
        sealed, base_id = rules[together[0].rule_digest], together[0].base_id
        which = f", base {_name(bases[base_id])}" if len(groups) > 1 else ""
        which += "" if sealed.is_in_force else ", since amended away"
        console.print(_verdict_table(sealed.rule, together, which))
        for row in together:
            console.print(Text.assemble((plain(row.lever), "bold"), plain(f": {row.reason}")), soft_wrap=True)
        for line in meanings(study.ledger, sealed, together):
            console.print(line, soft_wrap=True)
        _print_luck(study, sealed.digest, base_id, console)
        _print_baselines(study, sealed, base_id, console)
    present = next((base for base in bases.values() if base.is_present), None)
    if present is not None and present.base_id not in {row.base_id for row in rows}:
        say(f"note: no lever has been judged on base {_name(present)} yet. Try one: flowlab run --lever NAME")
    if study.rule.terms() not in [sealed.rule.terms() for sealed in rules.values() if sealed.is_in_force]:
        say(f"note: rule {study.rule.name!r} as experiments.toml has it now is not sealed; it has judged nothing above")


def _name(base: "KnownBase") -> str:
    return f"{base.name} (the present one)" if base.is_present else base.name


def read_effects(study: Study, levers: Sequence[str]) -> list[dict[str, Any]]:
    """What each lever is worth under each rule (view effects), with its q-value. Which levers: as `read_for`."""
    from flowlab.ledger.connection import read

    question = """
        select effects.*, false_discoveries.q_value, decisions.decision
        from effects
        left join false_discoveries using (rule_digest, base_id, lever, recipe_digest)
        left join decisions using (rule_digest, base_id, lever, recipe_digest)
        order by rule, rule_digest, base_id, lever"""
    rows = read(study.ledger, question).records()
    return [row for row in rows if not levers or CONTROL in levers or row["lever"] in levers]


def print_effects(study: Study, levers: Sequence[str]) -> None:
    """The table of effects; all advisory: no rule looks at it. No noise beside what the rule selected."""
    names = ["num_seeds", "raw_effect", "fresh_effect", "seed_noise", "evaluation_noise", "q_value"]
    rows = []
    for row in read_effects(study, levers):
        is_selected = row["decision"] == "stack"
        told = {name: row[name] for name in names} | ({"seed_noise": "selected"} if is_selected else {})
        rows.append([row["lever"], row["rule"], *told.values()])
    columns = ["lever", "rule", "seeds", "raw", "fresh", "seed noise", "drive noise", "q"]
    out().print(table(columns, rows, "improvements on the panel mean, above 0 is better; advisory, docs/views.md"))


def _print_luck(study: Study, rule_digest: str, base_id: str, console: Console) -> None:
    """Controls of the panel that were out of line: whatever was compared with them was flattered, or wronged."""
    from flowlab.ledger.connection import read

    question = """
        select reason from control_luck
        where rule_digest = ? and base_id = ? and (is_unlucky or is_lucky)
        order by seed"""
    for (reason,) in read(study.ledger, question, [rule_digest, base_id]).rows:
        console.print(reason, soft_wrap=True)


def _read(study: Study, levers: Sequence[str]) -> "list[Verdict]":
    from flowlab.ledger.connection import compute_once, read
    from flowlab.verdict.judge import JUDGING, read_verdicts

    compute_once(study.ledger, *JUDGING)
    rows = read_verdicts(study.ledger)
    _warn_of_reversals(study)
    if read(study.ledger, "select 1 from stacks limit 1").rows:
        _warn_of_unfounded_stacks(study)
    return [row for row in rows if not levers or CONTROL in levers or row.lever in levers]


def _warn_of_reversals(study: Study) -> None:
    from flowlab.verdict.record import read_reversals

    for reversal in read_reversals(study.ledger):
        say(
            f"warning: {reversal.lever} was recorded as {reversal.recorded!r} on {when(reversal.recorded_us)}, and is "
            f"{reversal.decision!r} by the views as they are now. Look at what came in since: flowlab ledger verify"
        )


def _warn_of_unfounded_stacks(study: Study) -> None:
    from flowlab.ledger.connection import read

    for lever, decision in read(study.ledger, "select lever, decision from unfounded_stacks order by entry").rows:
        say(
            f"warning: {lever} is stacked, and its rule says {decision or 'nothing'} of it. Look: flowlab ledger verify"
        )


def _sealed(study: Study) -> "dict[str, SealedRule]":
    """Each rule as it was sealed, whatever experiments.toml says by now, by its digest; oldest first."""
    from flowlab.verdict.history import read_history

    return {row.digest: row for row in read_history(study.ledger)}


def _verdict_table(rule: Rule, rows: "list[Verdict]", base: str) -> Grid:
    primary, first = rule.primary, rows[0]
    panel = f"{first.panel_count} of {len(rule.panel_seeds)} control seeds"
    if first.panel_mean is not None and first.panel_sd is not None:
        panel += f", mean {first.panel_mean:.4f}, sd {first.panel_sd:.4f}"
    title = (
        f"rule {first.rule}{base}: {primary.channel} {primary.metric} on {primary.slice}, {primary.readout}; "
        f"{primary.direction} is better\n"
        f"panel: {panel}"
    )
    cells = []
    for row in rows:
        pairs = ", ".join(
            f"{seed}: {delta:+.4f}" for seed, delta in zip(row.pair_seeds, row.paired_deltas, strict=True)
        )
        cells.append([row.lever, pairs, row.lever_mean, row.stage_reached, row.decision, row.owed])
    return table(["lever", "paired deltas (lever - control)", "mean", "stage", "decision", "owed"], cells, title)


MOST_POLICIES = 6
"""Named in one line."""


def _print_baselines(study: Study, sealed: "SealedRule", base_id: str, console: Console) -> None:
    """What the same slice gives without a policy: a policy that does not beat these has learnt nothing."""
    from flowlab.ledger.connection import read

    rows = read(study.ledger, "select * from baselines where base_id = ?", [base_id]).records()
    primary = sealed.rule.primary
    found = {
        row["readout"]: row["value"]
        for row in rows
        if (row["metric"], row["channel"], row["slice"], row["drive"])
        == (primary.metric, primary.channel, primary.slice, primary.drive or "")
    }
    if found:
        listed = ", ".join(f"{name} {value:.4f}" for name, value in sorted(found.items()))
        console.print(f"without a policy: {listed}", soft_wrap=True)
    worse = """
        select baseline, slice, any_value(baseline_value), list({'lever': lever, 'value': value} order by lever)
        from worse_than_baselines
        where rule_digest = ? and base_id = ?
        group by baseline, slice
        order by baseline, slice"""
    frames = frame_slices(study.slices)
    elsewhere: dict[str, dict[str, None]] = {}  # by baseline the other slices: one line, for they are many
    for baseline, where, value, policies in read(study.ledger, worse, [sealed.digest, base_id]).rows:
        if where not in frames:
            elsewhere.setdefault(baseline, {})[where] = None
        else:
            shown = ", ".join(f"{policy['lever']} {policy['value']:.4f}" for policy in policies[:MOST_POLICIES])
            more = f" and {len(policies) - MOST_POLICIES} more" if len(policies) > MOST_POLICIES else ""
            console.print(f"worse than {baseline} ({value:.4f}) on {where}: {shown}{more}", soft_wrap=True)
    for baseline, slices in elsewhere.items():
        more = f" and {len(slices) - MOST_POLICIES} more" if len(slices) > MOST_POLICIES else ""
        shown = f"{', '.join(list(slices)[:MOST_POLICIES])}{more}"
        console.print(f"worse than {baseline} elsewhere too: {shown} (view worse_than_baselines)", soft_wrap=True)
