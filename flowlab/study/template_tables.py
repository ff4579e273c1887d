"""The tables [drives], [split], [slices] and [selection] of a first study, with what was seen as comments."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from flowlab.study.settings import SplitSettings
from flowlab.study.slices import BOUNDS, SliceSettings
from flowlab.study.template import quoted

MOST_LISTED = 12
"""Names that a comment lists before it counts the rest."""
LONGEST_NAME, LONGEST_REASON = 78, 150
LINE = 116
LONGEST_SLICE = 64


class Channel(Protocol):
    """What is told of a channel, in its raw unit."""

    @property
    def name(self) -> str: ...
    @property
    def low(self) -> float: ...
    @property
    def median(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def rest(self) -> float: ...
    @property
    def rest_share(self) -> float: ...


@dataclass(frozen=True)
class Seen:
    """What was seen of some recordings. `drives`: how many frames each has; `unusable`: why others cannot be used."""

    drives: Mapping[str, int]
    seconds: float
    hz: tuple[float, float] | None  # of the slowest drive and of the fastest
    usual_hz: float | None  # of half of the drives or more
    gap_p95_s: float | None
    image_size: tuple[int, int] | None
    channels: Sequence[Channel]
    names: Mapping[str, Sequence[str]]  # "driver", "track", "task": which there are
    unusable: Mapping[str, str]

    @property
    def frames(self) -> int:
        return sum(self.drives.values())

    def in_words(self) -> str:
        """One line: how much there is."""
        told = [counted(len(self.drives), "drive"), counted(self.frames, "frame"), duration(self.seconds)]
        if self.hz is not None:
            low, high = (f"{hz:.3g}" for hz in self.hz)
            told.append(f"{low} Hz" if low == high else f"{low} to {high} Hz")
        return ", ".join(told)


def drives_table(head: str, keys: str, seen: Seen) -> str:
    """[drives] with `keys`, lines of TOML, and below it what was seen."""
    return f"{head}\n{keys}\n{_seen(seen)}\n"


def split_table(settings: SplitSettings, share: float | None) -> str:
    """[split] as those settings say, with the share of the frames that validate (None: they also train)."""
    if settings.blocks is not None:
        lines = [ONE_RECORDING + "[split]"]
        lines.append(f"blocks = {{ seconds = {settings.blocks.seconds:g}, gap_s = {settings.blocks.gap_s:g} }}")
    elif settings.scale == "overfit":
        lines = [OVERFIT + "[split]", 'scale = "overfit"']
    else:
        lines = ["[split]  # whole drives on one side each, never frames; the drives that are not named here train"]
    if share is not None:
        lines.append(f"# {share:.0%} of the frames validate.")
    if settings.val is not None:
        lines.append(_names("val", settings.val))
    if settings.without:
        lines.append("# These cannot be used; flowlab drives show tells why.")
        lines.append(_names("without", settings.without))
    return "\n".join(lines) + "\n\n"


def slices_table(why: str, slices: Mapping[str, tuple[SliceSettings, str]]) -> str:
    """[slices] with a comment on each; `why` stands above."""
    lines = [f"# {why}", "", "[slices]"]
    for name, (one, told) in slices.items():
        bounds = [(bound, getattr(one, bound)) for bound in BOUNDS]
        inside = ", ".join(f"{bound} = {value:g}" for bound, value in bounds if value is not None)
        comment = f"  # {told}" if told else ""
        lines.append(f'{name} = {{ channel = {quoted(one.channel)}, {inside}, slots = "{one.slots}" }}{comment}')
    return "\n".join(lines) + "\n\n"


def no_slices(channel: str) -> str:
    """A comment in place of [slices], where no channel that is not steering has frames worth one."""
    return NO_SLICES.format(name=slice_name(f"high_{channel}"), channel=quoted(channel))


def selection_table(channel: str, gap: float, votes: tuple[float, float, float] | None) -> str:
    """[selection] for a channel that is not steering, in its unit. `votes`: two temperatures of voting, and the
    deviation below which nothing is voted about.
    """
    text = SELECTION.format(channel=quoted(channel), gap=f"{gap:g}")
    if votes is not None:
        text += VOTES.format(first=f"{votes[0]:g}", second=f"{votes[1]:g}", spread=f"{votes[2]:g}")
    return text + "\n"


def said_of(drive_id: str, why: str) -> str:
    """Why a drive cannot be used, with its name."""
    return why if repr(drive_id) in why else f"drive {drive_id!r}: {why}"


def slice_name(text: str) -> str:
    """`text` as the name of a slice."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)[:LONGEST_SLICE]


def counted(number: int, what: str) -> str:
    """ "1 drive", "2 drives"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """How long, for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def listed(names: Sequence[str], most: int = MOST_LISTED) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _seen(seen: Seen) -> str:
    lines = [f"Seen when this file was written: {seen.in_words()}"]
    about = []
    if seen.gap_p95_s is not None:
        about.append(f"95% of the steps take {seen.gap_p95_s:.2g} s or less")
    if seen.image_size is not None:
        about.append("images are {} x {} (height x width)".format(*seen.image_size))
    lines.append("; ".join(about) + ". Drive by drive: flowlab drives show")
    lines.append("")
    lines += _channel_rows(seen.channels)
    told = [f"{what}: {listed([one_line(name) for name in names])}" for what, names in seen.names.items() if names]
    lines += ["", *told, *_drive_rows(seen)]
    if seen.unusable:
        lines += ["", f"{counted(len(seen.unusable), 'drive')} cannot be used:"]
        reasons = [said_of(name, why) for name, why in seen.unusable.items()]
        lines += [f"  {one_line(why, LONGEST_REASON)}" for why in reasons[:MOST_LISTED]]
        if len(seen.unusable) > MOST_LISTED:
            lines.append(f"  and {len(seen.unusable) - MOST_LISTED:,} more")
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _channel_rows(channels: Sequence[Channel]) -> list[str]:
    cells = [("channel", "low", "median", "high", "most often")]
    for one in channels:
        share = "over 99%" if 0.995 <= one.rest_share < 1 else f"{one.rest_share:.0%}"
        rest = f"{one.rest:.3g}, in {share} of the frames"
        cells.append((one.name, f"{one.low:.3g}", f"{one.median:.3g}", f"{one.high:.3g}", rest))
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    return [
        f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}"
        for row in cells
    ]


def _drive_rows(seen: Seen) -> list[str]:
    shown = list(seen.drives.items())[:MOST_LISTED]
    width = max(len(quoted(name)) for name, _ in shown)
    rows = [f"  {quoted(name):<{width}}  {frames:>7,} frames" for name, frames in shown]
    return rows if len(seen.drives) <= MOST_LISTED else [*rows, f"  and {len(seen.drives) - MOST_LISTED:,} more"]


def one_line(text: str, most: int = LONGEST_NAME) -> str:
    """Text from outside as part of a comment: one line, not too long, nothing that TOML does not take there."""
    line = "".join(one if one.isprintable() else " " for one in text)
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _names(key: str, names: Sequence[str]) -> str:
    """A key with a list of names: one a line if they are few, else as many as a line holds."""
    lines = [f"    {quoted(name)}," for name in names]
    if len(names) > MOST_LISTED:
        lines = ["   "]
        for name in names:
            if len(lines[-1]) + len(quoted(name)) > LINE:
                lines.append("   ")
            lines[-1] += f" {quoted(name)},"
    return f"{key} = [\n" + "\n".join(lines) + "\n]"


ONE_RECORDING = """\
# ONE RECORDING ALONE. Train and validation are stretches of it, neighbours in time, place and light. A verdict says
# what is better within this recording, and little beyond it. Record more drives, and let whole ones validate.
"""

OVERFIT = """\
# TRAIN = VALIDATION. The only recording there is does both, since it is too short to be split. Numbers say how well a
# policy learns it by heart, and nothing else: enough to try the commands. Record more before you believe a verdict.
"""

NO_SLICES = """\
# Slices: which frames a metric is taken over, beside overall. None is defined.
#
#   [slices.{name}]
#   channel = {channel}
#   above = 0.5  # of the raw action; or below, or size_above and size_below of its size
#   slots = "any"  # some slot of the frame; or all

"""

SELECTION = """\
# Modes: the draws of a frame are two if there is a gap between them. All of it is in the channel's own unit.

[selection]
channel = {channel}  # whose mean over a chunk tells the modes apart
gap = {gap}  # they are two if the largest gap between the sorted draws is wider than this: half a deviation
"""
VOTES = """\
vote_temperatures = [{first}, {second}]  # of readouts that vote over time: 1% and 5% of the range
vote_spread = {spread}  # a frame whose draws deviate less has nothing to vote about
"""
