"""How many controls a rule should have."""

import pytest

from flowlab.study.rule import preset_rule
from flowlab.verdict.panel_size import PanelSize, recommend_size, try_panel_sizes, with_panel_of
from flowlab.verdict.simulate import Campaigns


def sizes(*false_stacks: float) -> list[PanelSize]:
    return [PanelSize(2 ** (index + 1), value / 35, value, None) for index, value in enumerate(false_stacks)]


@pytest.mark.parametrize(
    ("false_stacks", "recommended"),
    [
        ((3.7, 2.8, 2.2, 1.9), 8),  # from 8 to 16 controls it is 0.3 of a false stack, not half a one
        ((0.2, 0.1), 2),
        ((9.0, 6.0, 3.0), 8),  # the largest that was tried
    ],
)
def test_a_panel_grows_while_doubling_it_spares_half_a_false_stack(false_stacks: tuple, recommended: int) -> None:
    assert recommend_size(sizes(*false_stacks)) == recommended


def test_a_panel_keeps_the_seeds_that_stages_pair_with() -> None:
    rule = preset_rule("paired", 4)  # panel 1001 to 1004, judged 1001 and 1002, each paired
    assert with_panel_of(rule, 1) is None
    assert with_panel_of(rule, 3).panel_seeds == (1001, 1002, 1003)
    assert with_panel_of(rule, 6).panel_seeds == (1001, 1002, 1003, 1004, 1005, 1006)


def test_fewer_controls_stack_more_levers_without_effect() -> None:
    asked = Campaigns(levers=35, real=0, effect=0.02, sigma=0.014, rho=0.0, spread=0.0, campaigns=1, seed=0)
    tried = {size.controls: size for size in try_panel_sizes(preset_rule("fresh", 8), asked)}
    assert list(tried) == [2, 4, 8, 16, 32]
    assert tried[2].null_stacked > 2 * tried[8].null_stacked > 2 * tried[32].null_stacked > 0
    assert tried[8].false_stacks == pytest.approx(35 * tried[8].null_stacked)
