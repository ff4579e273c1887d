"""What the parts of a rule, and what was simulated of it, are called."""

ERROR_RATES = {
    "null_stacked": "a lever without effect is stacked",
    "null_error": "  give or take (a standard error)",
    "loud_stacked": "a loud lever without effect is stacked",
    "power": "a real lever is stacked (power)",
    "power_error": "  give or take (a standard error)",
    "false_stacks": "false stacks expected per campaign",
    "any_false_stack": "campaigns with at least one false stack",
    "false_discovery_rate": "false among all that is stacked",
    "reported_effect": "mean effect reported of stacked real levers",
    "overestimate": "  by so much too large",
    "null_reported": "  of stacked levers without effect",
    "runs": "lever runs per campaign",
    "screen_runs": "  of which rows of the screen",
    "control_runs": "control runs per campaign",
}
"""What a simulation tells, in words."""

COMPARED_WITH = {
    "paired": "control at the same seed",
    "panel": "panel mean",
    "adjusted": "panel mean, the control's luck taken off",
}


def bar_text(bar: float, unit: str) -> str:
    """A bar with its unit, where that is not the metric's own."""
    return f"{bar:g}" if unit == "metric" else f"{bar:g} {unit.replace('-', ' ')}"
