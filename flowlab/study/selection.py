"""Which channel splits draws into modes, at what gap, and how draws are selected: the table [selection]."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from flowlab.core.errors import StudyError, unknown_name
from flowlab.core.vocabulary import DEFAULT_CHANNEL, PEDALS
from flowlab.study.recipe import Frozen
from flowlab.study.slices import Bound

LARGEST = 1e6
"""Of whatever is in raw units, as no channel is wider."""

Channel = Annotated[str, Field(min_length=1)]
Temperature = Annotated[float, Field(ge=1e-6, le=LARGEST)]


class SelectionSettings(Frozen):
    """How modes are told, and what is read out of the draws by them. All but `minority` is in the channel's raw units.

    A frame's draws have two modes if the largest gap between their sorted chunk means of `channel` is more than `gap`
    and the smaller side holds at least the share `minority` of them. `conflict`: two channels of which one chunk should
    not hold both above `conflict_above` in one slot; gas and brake where the drives have them. `vote_temperatures`: of
    temporal voting, each a readout; voting that is gated leaves a cloud alone whose chunk means have a standard
    deviation of `vote_spread` or less. `route_gain`: what a route of curvature 1/m (to the left) asks of the channel.
    """

    channel: Channel = DEFAULT_CHANNEL
    gap: Bound = Field(0.15, ge=0, le=LARGEST)
    minority: float = Field(0.125, gt=0, le=0.5)
    conflict: tuple[Channel, Channel] | None = Field(None, strict=False)
    conflict_above: Bound = Field(0.05, ge=-LARGEST, le=LARGEST)
    vote_temperatures: tuple[Temperature, ...] = Field((0.02, 0.1), strict=False, max_length=16)
    vote_spread: Bound = Field(0.05, ge=0, le=LARGEST)
    route_gain: Bound = Field(-8.0, ge=-LARGEST, le=LARGEST)

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        if self.conflict and self.conflict[0] == self.conflict[1]:
            raise ValueError(f"conflict names {self.conflict[0]} twice. Name two channels")
        names = [name_of(temperature) for temperature in self.vote_temperatures]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"vote_temperatures names {name.replace('_', '.')} twice. Give it once")
        return self

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON; `conflict` is left out where there is none."""
        return self.model_dump(mode="json", exclude_none=True)


def name_of(temperature: float) -> str:
    """A temperature as part of a readout's name, in which no point may stand: 0.05 is "0_05"."""
    return f"{temperature:.6f}".rstrip("0").rstrip(".").replace(".", "_")


def no_modes(where: str, readout: str, channels: Sequence[str]) -> StudyError:
    """The error for a rule's number whose readout looks for modes where no channel has them."""
    return StudyError(
        f"{where}: the readout {readout!r} needs a channel whose draws have modes, and the drives have no "
        f"{DEFAULT_CHANNEL}. Add a table [selection] with channel = one of {', '.join(channels)}."
    )


def selection_for(given: SelectionSettings | None, channels: Sequence[str] | None) -> SelectionSettings | None:
    """The settings of a study: those `given`, or the defaults where there is the channel that they look at, else None.

    `conflict` is then the pair that is looked at, None where there is none. `channels` is None where they are not known
    before the drives are read; the defaults are then taken to fit. Raises UnknownNameError for a channel that is not
    there, StudyError for a setting that does nothing.
    """
    settings = given or SelectionSettings()
    if channels is None:
        return settings
    if given is None and settings.channel not in channels:
        return None
    if settings.channel not in channels:
        if "channel" not in settings.model_fields_set:
            raise StudyError(f"the table [selection] names no channel. Name one: {', '.join(channels)}.")
        raise unknown_name("channel", settings.channel, channels, "selection.channel")
    for name in settings.conflict or ():
        if name not in channels:
            raise unknown_name("channel", name, channels, "selection.conflict")
    if settings.conflict is None and set(PEDALS) <= set(channels):
        return settings.model_copy(update={"conflict": PEDALS})
    if settings.conflict is None and "conflict_above" in settings.model_fields_set:
        raise StudyError(
            f"selection.conflict_above does nothing here: the drives have no {' and '.join(PEDALS)}. "
            f"Name two channels in selection.conflict, or leave it out."
        )
    return settings
