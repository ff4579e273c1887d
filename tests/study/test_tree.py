"""[tree]: phases in their order, each with what it may try and spend."""

import tomllib

import pytest

from flowlab.core.errors import FlowlabError
from flowlab.study.study import build_study
from tests.study.conftest import GOOD


def with_tree(**tree: object) -> dict:
    tables = tomllib.loads(GOOD)
    tables["levers"] = {"delta-off": {"set": {"objective.delta_weight": 0.0}}, "placebo": {"set": {}}}
    return tables | {"tree": tree}


def test_phases_keep_their_order_and_a_tree_is_known_by_its_digest(tmp_path):
    phases = [
        {"name": "loss", "levers": ["delta-off"], "runs": 4, "minutes": 1.5},
        {"name": "selection", "kind": "selection", "always": True},
    ]
    tree = build_study(tmp_path, with_tree(phases=phases)).file.tree
    assert [phase.name for phase in tree.phases] == ["loss", "selection"]
    assert (tree.on_stack, tree.on_crash) == ("move-base", "go-on")
    turned = build_study(tmp_path, with_tree(phases=phases[::-1])).file.tree
    assert tree.digest() == build_study(tmp_path, with_tree(phases=phases)).file.tree.digest() != turned.digest()


@pytest.mark.parametrize(
    ("phases", "told"),
    [
        ([], "tree.phases"),
        ([{"name": "loss", "levers": ["delta-of"]}], "unknown lever 'delta-of' in phase 'loss' of the tree: did you"),
        ([{"name": "loss"}], "phase 'loss' names no levers to try"),
        ([{"name": "loss", "levers": ["placebo"]}, {"name": "loss", "levers": ["delta-off"]}], "phases names loss twi"),
        ([{"name": "a", "levers": ["placebo"]}, {"name": "b", "levers": ["placebo"]}], "levers names placebo twice"),
        ([{"name": "a", "levers": ["placebo"], "ranker": True}], "which are for kind = \"selection\""),
        ([{"name": "a", "kind": "selection", "runs": 3}], "phase 'a' is a selection: levers, runs and minutes are fo"),
        ([{"name": "a", "kind": "finale", "readouts": ["mode"]}], "phase 'a' is a finale: readouts and ranker are fo"),
        (
            [{"name": "a", "kind": "selection", "readouts": ["meanq"]}],
            "unknown readout 'meanq' in phase 'a' of the tree: did you mean 'meank'",
        ),
        ([{"name": "a", "levers": ["placebo"], "runs": 0}], "runs"),
        ([{"name": "a", "levers": ["placebo"], "budget": 3}], "budget"),
    ],
)  # fmt: skip
def test_a_tree_that_cannot_be_is_refused_in_words(tmp_path, phases, told):
    with pytest.raises(FlowlabError) as refused:
        build_study(tmp_path, with_tree(phases=phases))
    assert told in str(refused.value)
