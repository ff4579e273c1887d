"""`flowlab rule`, in this process: the true command line is tested elsewhere."""

import json

import pytest

from flowlab.cli.rule_screen import print_rule
from tests.cli.tiny_study import flowlab_here, write_tiny
from tests.verdict.campaign import panel_rule

SIMULATE = ("rule", "simulate", "--campaigns", "40", "--levers", "10")


def test_simulate_needs_no_study_and_repeats(tmp_path):
    asked = (*SIMULATE, "--preset", "panel", "--controls", "4", "--real", "3", "--json")
    first, again = (json.loads(flowlab_here(tmp_path, *asked).stdout) for _ in range(2))
    assert first == again
    assert (first["rule"], first["campaigns"], first["control_runs"]) == ("panel", 40, 4)
    assert 0 < first["power"] < 1 and 0 <= first["null_stacked"] < 0.3


def test_simulate_says_it_in_words(tmp_path):
    told = flowlab_here(tmp_path, *SIMULATE, "--preset", "fresh").stdout
    assert "rule fresh: 40 campaigns of 10 levers, 0 of them 0.02 better, sigma 0.014, rho 0" in told
    assert "a lever without effect is stacked" in told


def test_a_screen_is_simulated_with_its_rows(tmp_path):
    told = flowlab_here(tmp_path, *SIMULATE[:2], "--campaigns", "2", "--levers", "4", "--preset", "screen").stdout
    assert "of which rows of the screen" in told
    assert "other sizes of panel are not tried" in told


def test_a_rule_of_the_study_can_be_simulated_and_is_listed(tmp_path):
    write_tiny(tmp_path)
    told = flowlab_here(tmp_path, *SIMULATE, "--rule", "panel").stdout
    assert "guardrails are left out" in told
    (listed,) = json.loads(flowlab_here(tmp_path, "rule", "list", "--json").stdout)
    assert (listed["rule"], listed["judges"], listed["in_force"]) == ("panel", True, False)
    assert listed["stages"] == ["triage", "stack"]


def test_the_evaluation_of_a_rule_is_shown_key_by_key(capsys):
    slices = {"hard": {"channel": "steering", "size_above": 0.5, "slots": "any"}}
    evaluation = {
        "draws": 4,
        "clip": True,
        "metrics": {"slices": slices, "version": 1},
        "selection": {"bandwidth": 0.1},
    }
    print_rule(panel_rule().model_copy(update={"evaluation": evaluation}), None, [])
    told = capsys.readouterr().out
    assert "primary: l1 steering spike_frame meank; lower is better" in told
    assert told.splitlines()[-3:] == [
        "evaluation: draws 4, clip true",
        "slice hard: channel steering, size_above 0.5, slots any",
        "selection: bandwidth 0.1",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give either --preset or --rule, and not both"),
        (("--preset", "pannel"), "did you mean 'panel'?"),
        (("--preset", "panel", "--real", "11"), "--real got 11, expected --levers (10) or less."),
        (("--preset", "panel", "--rho", "2"), "less than or equal to 1"),
        (("--preset", "climb", "--overlap", "0.5"), "--overlap is of levers that are on together"),
        (("--preset", "climb", "--loud", "2", "--real", "10"), "--num-loud got 1, expected 0 or less"),
        (("--preset", "climb", "--sealed-df", "7", "--sigma", "0"), "--sealed-df with --sigma 0"),
        (("--preset", "screen", "--levers", "3"), "a screen needs 4 levers"),
        (("--preset", "screen", "--levers", "201"), "--levers got 201, expected 200 or less"),
    ],
)
def test_nonsense_is_one_sentence(tmp_path, arguments, told):
    assert told in flowlab_here(tmp_path, *SIMULATE, *arguments, code=2).stderr
