"""How the learned ranker is trained and read out: the table [ranker], and the name that its settings give it."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from flowlab.core.errors import StudyError, unknown_name
from flowlab.study.recipe import Frozen

RANKER = "ranker"
"""The ranker of the published settings, and the readout that weighs draws by its scores."""

ALL_CHANNELS = "all"
READ_OUT = ("temperature", "top")
"""What is chosen when scores are read out; the rest is what a ranker is trained with."""


class RankerSettings(Frozen):
    """A ranker scores the draws of a frame by their expected L1, by the condition. Defaults are as published.

    `loss`: "listwise" compares the softmax over a frame's draws with that of -L1 / `tau`, "pointwise" regresses the L1.
    `spread_weighted`: a frame counts as much as the standard deviation of its draws' L1 over its mean. `channel`: whose
    L1, that of [selection] where it is not given, "all" for the mean over all. It is trained on `draws` draws of each
    train frame, of at most `frames` of them, which then lie evenly over the train split; `batch` counts frames.

    `temperature`: scores are divided by it before their softmax weighs the draws. `top`: how many of the best draws are
    averaged.
    """

    width: int = Field(512, ge=8, le=16384, multiple_of=8)
    loss: Literal["listwise", "pointwise"] = "listwise"
    tau: float = Field(0.02, ge=1e-6, le=1e6)
    spread_weighted: bool = True
    channel: Annotated[str, Field(min_length=1)] | None = None
    draws: int = Field(8, ge=2, le=10**4)
    frames: int = Field(16384, ge=1, le=10**9)
    epochs: int = Field(64, ge=1, le=10**6)
    batch: int = Field(64, ge=1, le=10**6)
    lr: float = Field(3e-4, gt=0, le=1e6)
    weight_decay: float = Field(0.1, ge=0, le=1e6)
    temperature: float = Field(4.0, ge=1e-6, le=1e6)
    top: int = Field(4, ge=1, le=10**4)

    @property
    def looked_at(self) -> str | None:
        """The channel whose L1 is ranked by, once it is known; None for all."""
        return None if self.channel == ALL_CHANNELS else self.channel

    def name(self, selection_channel: str | None) -> str:
        """The ranker's name: "ranker", then each setting of training that is not the published one.

        It names the file, and the readouts, so that no two rankers share rows. `selection_channel` is that of
        [selection], the one that a ranker is of where its name says nothing.
        """
        return _joined(RANKER, self._changes(selection_channel))

    def readout_name(self, kind: str, selection_channel: str | None) -> str:
        """The name of a readout of this ranker: what `kind` says, then what the ranker's name says.

        `kind` is "" for the softmax, at whose published temperature nothing is said.
        """
        if not kind and self.temperature != PUBLISHED.temperature:
            kind = _spelled("temperature", self.temperature)
        return _joined(RANKER, [kind] * bool(kind) + self._changes(selection_channel))

    def trained_with(self) -> dict[str, Any]:
        """What a ranker is trained with, as plain JSON."""
        return self.model_dump(mode="json", exclude=set(READ_OUT))

    def _changes(self, selection_channel: str | None) -> list[str]:
        changes = []
        for name, value in self.trained_with().items():
            if name != "channel" and value != getattr(PUBLISHED, name):
                changes.append(_spelled(name, value))
        if self.channel not in (None, selection_channel):
            changes.append(f"of-{_plain(str(self.channel))}")
        return changes


def ranker_for(given: RankerSettings, selection_channel: str | None, channels: Sequence[str] | None) -> RankerSettings:
    """The settings with the channel that they mean. `channels`: the raw ones, None where they are not known yet.

    Raises StudyError where none is meant, UnknownNameError for one that is not there.
    """
    channel = given.channel or selection_channel
    if channel is None:
        listed = f" Name one of {', '.join(channels)}, or all" if channels else " Name one"
        raise StudyError(
            f"a ranker looks at the channel of [selection], and there is none here.{listed}: ranker.channel"
        )
    if channels is not None and channel not in (*channels, ALL_CHANNELS):
        raise unknown_name("channel", channel, (*channels, ALL_CHANNELS), "ranker.channel")
    return given.model_copy(update={"channel": channel})


def _spelled(name: str, value: Any) -> str:
    """A setting as part of a name: tau0_05, pointwise, unweighted."""
    if name == "loss":
        return str(value)
    if name == "spread_weighted":
        return "unweighted"
    return f"{name.replace('_', '-')}{_plain(value)}"


def _plain(value: Any) -> str:
    """A value as part of a readout's name, in which no point may stand."""
    text = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
    return text.replace(".", "_").replace("+", "")


def _joined(first: str, parts: list[str]) -> str:
    return "-".join([first, *parts])


PUBLISHED = RankerSettings()
