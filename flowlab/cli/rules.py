"""`flowlab rule`: what is registered, and what becomes of it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flowlab.cli.options import Device, JsonOption, StudyOption, open_study
from flowlab.cli.rule_screen import print_rejudged, print_rule, show_foretold
from flowlab.cli.screen import Bars, out, print_json, say, table
from flowlab.core.errors import unknown_name
from flowlab.study.rule import Rule, write_out
from flowlab.study.study import Study

if TYPE_CHECKING:
    from flowlab.lab.sealing import Foretold


def rule_list(study: StudyOption = None, as_json: JsonOption = False) -> None:
    """The study's rules, which of them judges, and which is in force."""
    from flowlab.cli.judge import ingest_all
    from flowlab.verdict.seal import rules_in_force

    found = open_study(study)
    ingest_all(found)
    in_force = [sealed.rule.terms() for sealed in rules_in_force(found.ledger)]
    rules = [write_out(name, settings, found.file.study.primary) for name, settings in found.file.rules.items()]
    records = [
        {
            "rule": rule.name,
            "judges": rule.name == found.rule.name,
            "in_force": rule.terms() in in_force,
            "panel_seeds": len(rule.panel_seeds),
            "judged_seeds": len(rule.judged_seeds),
            "stages": [stage.name for stage in rule.stages],
            "guardrails": len(rule.guardrails),
        }
        for rule in rules
    ]
    if as_json:
        print_json(records)
        return
    rows = [[", ".join(value) if isinstance(value, list) else value for value in row.values()] for row in records]
    out().print(table(list(records[0]), rows, f"rules of study {found.name}"))


def rule_show(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A rule of experiments.toml; without it, the one in force.")
    ] = None,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """One rule, whole: what it asks, at which seeds, of which runs, how often it fools, how it was amended."""
    from flowlab.cli.judge import ingest_all
    from flowlab.verdict.history import read_history

    found = open_study(study)
    ingest_all(found)
    history = read_history(found.ledger)
    sealed = next((row for row in reversed(history) if row.is_in_force), None)
    if name is not None:
        shown = of_study(name, found)
        sealed = next((row for row in reversed(history) if row.rule.terms() == shown.terms()), None)
    shown = sealed.rule if sealed is not None else of_study(name or found.rule.name, found)
    if as_json:
        print_json(
            {"rule": shown.to_json(), "roles": shown.roles(), "sealed": asdict(sealed) if sealed else None}
            | {"history": [asdict(row) for row in history]}
        )
        return
    print_rule(shown, sealed, history)


def rule_seal(study: StudyOption = None, as_json: JsonOption = False) -> None:
    """Seal the study's rule now, without training its panel first; `flowlab run` trains it, then seals."""
    from flowlab.lab.environment import choose_device
    from flowlab.lab.launch import stand

    found = open_study(study)
    shown: list[dict] = []

    def show(foretold: "Foretold") -> None:
        shown.append(foretold.to_json())
        show_foretold(foretold)

    stand(found, (), choose_device(Device.auto.value), Bars(), show)
    if as_json:
        print_json({"rule": found.rule.name, "sealed_now": bool(shown), "simulated": shown[0] if shown else None})
    elif not shown:
        say(f"rule {found.rule.name!r} is in force: it was sealed before")


def rule_amend(
    reason: Annotated[str, typer.Option(help="Why; it stands in the ledger for ever.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show every past lever under both rules, and stop.")
    ] = False,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put the study's rule in the place of the one in force, on the record: past levers under both, flips marked."""
    from flowlab.lab.ground import open_ground
    from flowlab.lab.sealing import amend_study_rule, preview_amendment
    from flowlab.verdict.record import record_decisions

    found = open_study(study)
    ground = open_ground(found)
    if dry_run:
        looked = preview_amendment(found, ground, reason)
    else:
        looked = []
        amend_study_rule(found, ground, reason, Bars(), show_foretold, looked.extend)
        record_decisions(found.runs, found.ledger)
    if as_json:
        print_json(
            {
                "rule": found.rule.name,
                "reason": reason,
                "amended": not dry_run,
                "rejudged": [asdict(row) for row in looked],
            }
        )
        return
    print_rejudged(looked)
    if dry_run:
        say("nothing was changed (--dry-run)")
    else:
        say(f"rule {found.rule.name!r} is in force from now on; whatever ran before is post-hoc for it")


def of_study(name: str, found: Study) -> Rule:
    """A rule of experiments.toml. Raises UnknownNameError for a name that it has not."""
    if name not in found.file.rules:
        raise unknown_name("rule", name, found.file.rules, "--rule")
    return write_out(name, found.file.rules[name], found.file.study.primary)
