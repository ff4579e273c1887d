"""[tree]: the phases that `flowlab loop` goes through, in order."""

import re
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from flowlab.core.digest import digest_json
from flowlab.core.errors import UnknownNameError, unknown_name
from flowlab.core.plugins import locate
from flowlab.core.vocabulary import BOUNDS, CHUNK_READOUTS, MODE_READOUTS, READOUTS
from flowlab.study.problems import require_each_once
from flowlab.study.recipe import Frozen

FIRST_DRAWS = re.compile(r"meank-[1-9]\d*")  # the mean of so many draws

PhaseName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([.+-][a-z0-9]+)*$", max_length=64)]


class PhaseSettings(Frozen):
    """One phase. `kind`: levers that are tried, a selection among the base's draws, or a finale on the full path.

    Its budget is `runs` (trained since it began, the panel's among them) or `minutes` (of workers, on these runs); it
    ends, whatever is undecided, once one of them is used up. `always`: the budget of `flowlab loop` does not stop it,
    and where that stops an earlier phase this one runs all the same, on what there is.
    """

    name: PhaseName
    kind: Literal["levers", "selection", "finale"] = "levers"
    levers: tuple[PhaseName, ...] = Field((), strict=False)
    runs: int | None = Field(None, ge=1, le=10**6)
    minutes: float | None = Field(None, gt=0, le=10**7)
    always: bool = False
    readouts: tuple[str, ...] = Field((), strict=False)
    ranker: bool = False

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if self.kind == "levers":
            if not self.levers:
                raise ValueError(f"phase {self.name!r} names no levers to try")
            if self.readouts or self.ranker:
                raise ValueError(f'phase {self.name!r} has readouts or a ranker, which are for kind = "selection"')
            return self
        if self.levers or self.runs is not None or self.minutes is not None:
            raise ValueError(f"phase {self.name!r} is a {self.kind}: levers, runs and minutes are for levers")
        if self.kind == "finale" and (self.readouts or self.ranker):
            raise ValueError(f"phase {self.name!r} is a finale: readouts and ranker are for a selection")
        return self


class TreeSettings(Frozen):
    """A tree of experiments.

    `on_stack`: what happens once a rule says `stack` and nothing of the phase is owed any more: "move-base" stacks
    the lever of the largest effect, and goes on with what the new base is owed; "stop" ends the loop, for you to stack.
    `on_crash`: "go-on" leaves a lever with a crashed run to the rule, which drops it; "stop" ends the loop.
    """

    phases: tuple[PhaseSettings, ...] = Field(strict=False, min_length=1)
    on_stack: Literal["move-base", "stop"] = "move-base"
    on_crash: Literal["go-on", "stop"] = "go-on"

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        require_each_once("phases", [phase.name for phase in self.phases])
        require_each_once("levers", [lever for phase in self.phases for lever in phase.levers])
        return self

    def digest(self) -> str:
        """What the tree is known by once it is registered."""
        return digest_json(self.to_json())

    def to_json(self) -> dict:
        """The tree as it is registered. Settings that came later are left out where they are as they were before."""
        return self.model_dump(mode="json")


def require_known_names(tree: TreeSettings, levers: Iterable[str]) -> None:
    """Raises UnknownNameError, with the nearest name, for a lever that the file does not have, or no readout.

    A typing mistake would else be found when its phase is reached, in the middle of the night.
    """
    known = set(levers)
    for phase in tree.phases:
        for name in phase.readouts:
            if name not in (*CHUNK_READOUTS, *MODE_READOUTS, *BOUNDS) and not FIRST_DRAWS.fullmatch(name):
                try:
                    locate("readouts", name)
                except UnknownNameError:
                    raise unknown_name("readout", name, READOUTS, f"phase {phase.name!r} of the tree") from None
        for lever in phase.levers:
            if lever not in known:
                raise unknown_name("lever", lever, known, f"phase {phase.name!r} of the tree")
