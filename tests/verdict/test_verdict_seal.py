"""A sealed rule is the executed rule."""

import multiprocessing
from pathlib import Path

import pytest

from flowlab.core.digest import base_id, digest_json
from flowlab.core.errors import RuleChangedError, RuleRefusedError
from flowlab.core.types import MetricRow
from flowlab.journal.journal import read_journal
from flowlab.journal.lines import RunJournal
from flowlab.ledger.connection import read
from flowlab.ledger.ingest import ingest
from flowlab.verdict.seal import first_difference, register_design, seal_rule
from tests.verdict.campaign import EVALUATION, FLAT, panel_rule, preset, sealable

SPIKE = FLAT.model_copy(update={"slice": "spike_frame"})


def test_a_seal_holds_the_whole_rule(ledger: Path, runs: Path) -> None:
    rule = sealable(panel_rule(panel_seeds=(1001, 1002, 5), guardrails=(FLAT,)))
    assert seal_rule(rule, runs, ledger)
    assert read(ledger, "select rule_digest, name, slice from rules").rows == [(rule.digest(), "panel", "spike_frame")]
    stages = read(ledger, "select name, statistic, num_seeds, bar from rule_stages order by position").rows
    assert stages == [("triage", "paired", 1, 0.010), ("stack", "panel", 2, 0.015)]
    assert read(ledger, "select slice, margin from rule_guardrails").rows == [("flat_frame", 0.004)]
    panel = read(ledger, "select seed from rule_seeds where role = 'panel' order by position").rows
    assert panel == [(1001,), (1002,), (5,)]


def test_sealing_again_does_nothing(ledger: Path, runs: Path) -> None:
    seal_rule(sealable(panel_rule()), runs, ledger)
    assert not seal_rule(sealable(panel_rule()), runs, ledger)
    assert len(read_journal(runs / "study.jsonl")[0]) == 1


def test_a_changed_rule_is_refused_with_its_first_difference(ledger: Path, runs: Path) -> None:
    rule = sealable(panel_rule())
    seal_rule(rule, runs, ledger)
    stages = (rule.stages[0].model_copy(update={"bar": 0.005}), rule.stages[1])
    with pytest.raises(
        RuleChangedError, match=r"stages\[0\]\.bar = 0\.01, .* 0\.005: restore it .* flowlab rule amend"
    ):
        seal_rule(rule.model_copy(update={"stages": stages}), runs, ledger)
    assert len(read_journal(runs / "study.jsonl")[0]) == 1


def test_a_guardrail_that_disappears_is_a_change(ledger: Path, runs: Path) -> None:
    seal_rule(sealable(panel_rule(guardrails=(FLAT, SPIKE))), runs, ledger)
    with pytest.raises(RuleChangedError, match=r"guardrails\[1\]"):
        seal_rule(sealable(panel_rule(guardrails=(FLAT,))), runs, ledger)


def test_one_rule_is_in_force_whatever_its_name(ledger: Path, runs: Path) -> None:
    seal_rule(sealable(panel_rule()), runs, ledger)
    with pytest.raises(RuleChangedError, match=r'rule \'panel\' is in force with name = "panel", .* "wider"'):
        seal_rule(sealable(panel_rule(panel_seeds=(1001, 1002, 1003), name="wider")), runs, ledger)


def test_another_evaluation_identity_is_another_rule(ledger: Path, runs: Path) -> None:
    rule = panel_rule(guardrails=(FLAT,))
    seal_rule(rule.judging({"cache_id": "a", "draws": 32}), runs, ledger)
    with pytest.raises(RuleChangedError, match=r"evaluation.draws = 32, experiments.toml now makes it 64"):
        seal_rule(rule.judging({"cache_id": "a", "draws": 64}), runs, ledger)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"guardrails": ()}, "rule 'panel' has no guardrails"),
        ({"guardrails": (FLAT.model_copy(update={"margin": 2.0}),)}, "every outcome passes the guardrail"),
        ({"evaluation": None}, "does not say how the runs it judges are evaluated"),
    ],
)
def test_a_rule_that_must_not_be_sealed_is_refused(ledger: Path, runs: Path, change: dict, words: str) -> None:
    with pytest.raises(RuleRefusedError, match=words):
        seal_rule(sealable(panel_rule()).model_copy(update=change), runs, ledger)
    assert not (runs / "study.jsonl").exists()


def test_a_seal_whose_digest_is_not_its_rule_s_is_left_out(ledger: Path, runs: Path) -> None:
    seal_rule(sealable(panel_rule()), runs, ledger)
    journal = runs / "study.jsonl"
    forged = journal.read_text().replace("0.015", "0.001")
    (runs / "study.jsonl").write_text(journal.read_text() + forged)
    (problem,) = ingest(ledger, runs).problems
    assert "study.jsonl, line 2: the rule's digest is" in problem
    assert read(ledger, "select count(*) from rules").rows == [(1,)]


def _seal(ledger: Path, runs: Path) -> None:
    seal_rule(sealable(panel_rule()), runs, ledger)


def test_two_processes_seal_once(ledger: Path, runs: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_seal, args=(ledger, runs)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(read_journal(runs / "study.jsonl")[0]) == 1


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ("a.b[1]", 2, 3)),
        ({"a": [1]}, {"a": [1, 2]}, ("a[1]", None, 2)),
        ({"a": 1}, {"a": 1, "b": 2}, ("b", None, 2)),
    ],
)
def test_the_first_difference_is_found(old: dict, new: dict, found: tuple | None) -> None:
    assert first_difference(old, new) == found


def test_seeds_and_guardrails_may_not_change_once_their_panel_was_seen_and_bars_may(ledger: Path, runs: Path) -> None:
    rule = sealable(preset("climb", tuple(range(1001, 1009)), tuple(range(1001, 1007))))
    base = base_id("base", digest_json(EVALUATION))
    register_design(rule, runs, ledger, base)
    with RunJournal.of(runs, "control-1001") as journal:
        journal.whole(
            {
                "run_id": "control-1001",
                "study": "test",
                "lever": "control",
                "seed": 1001,
                "replicate": 0,
                "recipe": {},
                "recipe_digest": "base",
                "control_digest": "base",
                "cache_id": "cache",
                "evaluation_id": digest_json(EVALUATION),
                "evaluation": EVALUATION,
            },
            [],
            [MetricRow("l1", "steering", "spike_frame", "meank", 0.4)],
        )
    wider = rule.model_copy(update={"guardrails": (FLAT.model_copy(update={"margin": 0.4}),)})
    with pytest.raises(
        RuleChangedError, match=r"the control at 1001 ran for a rule with guardrails\[0\].margin = 0.004"
    ):
        register_design(wider, runs, ledger, base)
    higher = rule.stages[0].model_copy(update={"bar": 0.013})
    register_design(rule.model_copy(update={"stages": (higher, *rule.stages[1:])}), runs, ledger, base)
    assert read(ledger, "select count(*) from calibrations").rows == [(1,)]
    unseen = rule.model_copy(update={"panel_seeds": tuple(range(3001, 3009)), "judged_seeds": tuple(range(3001, 3007))})
    register_design(unseen, runs, ledger, base)
    assert read(ledger, "select count(*) from calibrations").rows == [(2,)]
