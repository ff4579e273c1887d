"""What a run is made from, whole: its recipe, the inputs of the cache that it is trained from, and whose stats."""

from typing import Any, Literal

from flowlab.study.recipe import Frozen, Recipe
from flowlab.study.settings import Inputs


class Setup(Frozen):
    """Everything that a lever can change. Tables of the recipe and of the inputs have different names.

    `stats`: whose train split knots and densities are fitted on, the control's (Study.stats_inputs) or a lever's own.
    """

    recipe: Recipe
    inputs: Inputs
    stats: Literal["control", "own"] = "control"

    def to_json(self) -> dict[str, Any]:
        """Recipe and inputs side by side as plain JSON, defaults included."""
        return self.recipe.to_json() | self.inputs.to_json()
