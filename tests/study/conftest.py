import pytest

GOOD = """
[study]
name = "demo"
rule = "panel"
primary = { slice = "spike_frame" }

[drives]
source = "carracing"
count = 4

[split]
num_val = 1

[control.objective]
delta_weight = 10.0
lds = { alpha = 0.5 }

[levers.delta-off]
set = { "objective.delta_weight" = 0.0 }

[rules.panel]
preset = "panel"
panel_seeds = [1001, 1002, 1003]
judged_seeds = [1001, 1002]
guardrails = [{ slice = "flat_frame", margin = 0.004 }]
"""


@pytest.fixture
def good_text() -> str:
    """An experiments.toml with a bit of everything and nothing wrong."""
    return GOOD
