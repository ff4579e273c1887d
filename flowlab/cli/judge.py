"""`flowlab verdict` and `flowlab sql`: what the ledger says."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, out, plain, print_json, say, table, when
from flowlab.core.errors import BusyError, CannotWriteError
from flowlab.study.rule import Rule
from flowlab.study.slices import frame_slices
from flowlab.study.study import CONTROL, Study

if TYPE_CHECKING:
    from flowlab.verdict.history import SealedRule
    from flowlab.verdict.judge import Verdict

PRESENT = " (the present one)"


def verdict(
    lever: Annotated[str | None, typer.Argument(metavar="[LEVER]", help="One lever only.")] = None,
    effects: Annotated[
        bool, typer.Option("--effects", help="Also what each lever looks worth: raw, fresh, noise, q-value.")
    ] = False,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the registered rule decides for every lever: pairs, deltas, panel, stage, decision, what is owed next."""
    from flowlab.verdict.seal import tell_clock

    found = open_study(study)
    if lever is not None:
        found.require_lever(lever)
    ingest_all(found)
    tell_clock(found.ledger, Bars())
    levers = [] if lever is None else [lever]
    if as_json:
        worth = {"effects": read_effects(found, levers)} if effects else {}
        verdicts = read_for(found, levers)
        print_json({"verdicts": verdicts} | worth if effects else verdicts)
    else:
        print_verdicts(found, levers)
        if effects:
            print_effects(found, levers)


def sql(
    question: Annotated[str, typer.Argument(metavar="SQL", help='One SELECT, such as "select * from verdicts".')],
    file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the answer to FILE.csv or FILE.parquet instead.")
    ] = None,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the ledger in SQL. It is a DuckDB file: docs/views.md lists its views."""
    from flowlab.interop.answer import require_ending, write_answer
    from flowlab.ledger.connection import read

    if file is not None:
        require_ending(file)
    found = open_study(study)
    ingest_all(found)
    answer = read(found.ledger, question)
    if file is not None:
        write_answer(answer, file)
        say(f"{len(answer.rows):,} rows, {len(answer.columns)} columns: {file}")
        if as_json:
            print_json({"file": str(file), "rows": len(answer.rows)})
        return
    if as_json:
        print_json(answer.records())
    else:
        out().print(table(answer.columns, answer.rows))


def compare(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, as flowlab status lists it.")],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Another run's id.")],
    everything: Annotated[bool, typer.Option("--all", help="Every slice, not only the whole frames'.")] = False,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """The final numbers of two runs side by side; refused if they were not evaluated in one way."""
    from flowlab.verdict.compare import compare_runs

    found = open_study(study)
    ingest_all(found)
    shared = compare_runs(found.ledger, run, other)
    whole = frame_slices(found.slices)
    chosen = [row for row in shared if everything or (row.slice in whole and not row.drive)]
    if as_json:
        print_json([asdict(row) | {"difference": row.difference} for row in chosen])
        return
    names = ["metric", "channel", "slice", "drive", "readout"]
    cells = [
        [*(getattr(row, name) for name in names), row.value, row.other_value, f"{row.difference:+.4f}"]
        for row in chosen
    ]
    columns = [*names, run, other, "difference"]
    out().print(table(columns, cells, f"{len(chosen)} of {len(shared)} final numbers that both runs have"))


def ingest_all(study: Study) -> None:
    """Bring what journals hold now into the ledger, record what it decides by then, and say what could not be read.

    Who may not write here, or finds another process at it, asks what the ledger has, and is told what is unread.
    """
    from flowlab.ledger.ingest import READER_PATIENCE_S, ingest
    from flowlab.ledger.unread import count_unread
    from flowlab.verdict.record import record_decisions

    try:
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
    rows = _read(study, levers)
    if not rows:
        say("no lever has a run that the rule judges yet. Try one: flowlab run --lever NAME --seeds A,B")
        return
    from flowlab.verdict.meanings import meanings

    console = out()
    rules = _sealed(study)
    bases = _bases(study)
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for row in sorted(rows, key=lambda row: (list(rules).index(row.rule_digest), list(bases).index(row.base_id))):
        groups.setdefault((row.rule_digest, row.base_id), []).append(row)
    for together in groups.values():
        sealed, base_id = rules[together[0].rule_digest], together[0].base_id
        which = f", base {bases[base_id]}" if len(groups) > 1 else ""
        which += "" if sealed.is_in_force else ", since amended away"
        console.print(_verdict_table(sealed.rule, together, which))
        for row in together:
            console.print(Text.assemble((plain(row.lever), "bold"), plain(f": {row.reason}")), soft_wrap=True)
        for line in meanings(study.ledger, sealed, together):
            console.print(line, soft_wrap=True)
        _print_luck(study, sealed.digest, base_id, console)
        _print_baselines(study, sealed, base_id, console)
    present = list(bases)[-1]
    if bases[present].endswith(PRESENT) and present not in {row.base_id for row in rows}:
        say(f"note: no lever has been judged on base {bases[present]} yet. Try one: flowlab run --lever NAME")
    if study.rule.terms() not in [sealed.rule.terms() for sealed in rules.values() if sealed.is_in_force]:
        say(f"note: rule {study.rule.name!r} as experiments.toml has it now is not sealed; it has judged nothing above")


def _bases(study: Study) -> dict[str, str]:
    """A name for each base that has runs, by its id, oldest first: the control and what was stacked on it."""
    from flowlab.ledger.connection import read

    question = """
        select base_id, coalesce(arg_max(bases.stacked, bases.entry), []), max(bases.entry)
        from (select base_id, min(entry) as first from runs group by base_id) as ran
        full join bases using (base_id)
        group by base_id
        order by coalesce(max(bases.entry), 0), min(ran.first), base_id"""
    rows = read(study.ledger, question).rows
    names = {base_id: " -> ".join([CONTROL, *stacked]) + f" {base_id[:6]}" for base_id, stacked, _ in rows}
    if rows and rows[-1][2] is not None:
        names[rows[-1][0]] += PRESENT
    return names


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
    from flowlab.ledger.connection import read
    from flowlab.verdict.judge import read_verdicts

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


def _verdict_table(rule: Rule, rows: "list[Verdict]", base: str) -> Table:
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
    for baseline, where, value, policies in read(study.ledger, worse, [sealed.digest, base_id]).rows:
        if where in frames:
            shown = ", ".join(f"{policy['lever']} {policy['value']:.4f}" for policy in policies[:MOST_POLICIES])
            more = f" and {len(policies) - MOST_POLICIES} more" if len(policies) > MOST_POLICIES else ""
            console.print(f"worse than {baseline} ({value:.4f}) on {where}: {shown}{more}", soft_wrap=True)
