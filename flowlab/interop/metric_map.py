"""How the keys of another tracker's metrics become flowlab's (metric, channel, slice, readout, drive)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

from flowlab.core.errors import LedgerError
from flowlab.core.types import MetricRow, join_slice, split_slice
from flowlab.core.vocabulary import OVERALL
from flowlab.interop.cells import listed, shown
from flowlab.interop.faults import unknown

EXAMPLE = "--map val/steering_l1=l1:steering:spike_frame:meank"
FINAL = "final"


class MetricName(NamedTuple):
    """Of what a number is, in flowlab's words: all that a metric row says but its value and its step."""

    metric: str
    channel: str
    slice: str
    readout: str
    drive: str = ""

    @property
    def frames(self) -> str:
        """The slice and the drive as one text."""
        return join_slice(self.slice, self.drive)

    def row(self, value: float, step: int) -> MetricRow:
        return MetricRow(self.metric, self.channel, self.slice, self.readout, value, step, self.drive)

    def __str__(self) -> str:
        """As --map takes it."""
        return ":".join((self.metric, self.channel, self.frames, self.readout))


class MetricMap:
    """Names by key. A key without one keeps its own as the metric, over all channels and the slice overall."""

    def __init__(
        self, names: dict[str, MetricName], finals: frozenset[str], asked: frozenset[str] | None = None
    ) -> None:
        self._names = names
        self._finals = finals
        self._asked = frozenset(names) if asked is None else asked

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """From "KEY=metric:channel:slice:readout", with ":final" for a key of which the last value alone counts.

        A slice may have a colon in it (slot:1), and may name a drive (drive:ID, SLICE:drive:ID). Raises LedgerError
        for anything else, and for a key given twice.
        """
        names: dict[str, MetricName] = {}
        finals = set()
        for text in texts:
            key, equals, told = text.rpartition("=")
            parts = told.split(":")
            is_final = len(parts) > 4 and parts[-1] == FINAL
            parts = parts[:-1] if is_final else parts
            if not equals or not key or len(parts) < 4 or not parts[0] or not all(parts[2:-1]):
                raise LedgerError(f"--map got {text!r}, expected KEY=metric:channel:slice:readout. Example: {EXAMPLE}")
            if key in names:
                raise LedgerError(f"--map names {key!r} twice. Keep one of them.")
            where, drive = split_slice(":".join(parts[2:-1]))
            names[key] = MetricName(parts[0], parts[1], where, parts[-1], drive)
            finals |= {key} if is_final else set()
        return cls(names, frozenset(finals))

    def knowing(self, told: Mapping[str, tuple[str, ...]]) -> "MetricMap":
        """The same map for a file that tells itself what its keys mean; what somebody mapped goes before that."""
        names = {key: MetricName(*parts) for key, parts in told.items()}
        return MetricMap(names | self._names, self._finals, frozenset(self._names))

    def name(self, key: str) -> MetricName:
        return self._names.get(key, MetricName(key, "", OVERALL, ""))

    def is_final(self, key: str) -> bool:
        """Whether the last value of `key` alone is kept, as what the run ended with."""
        return key in self._finals

    def require_fits(self, keys: Sequence[str]) -> None:
        """Raises UnknownNameError for a mapped key that is not there, LedgerError if two keys have one name."""
        for key in sorted(self._asked):
            if key not in keys:
                raise unknown("metric", key, keys, "--map")
        owners: dict[MetricName, str] = {}
        for key in keys:
            first = owners.setdefault(self.name(key), key)
            if first != key:
                raise LedgerError(
                    f"metrics {shown(first)} and {shown(key)} would both become {listed([str(self.name(key))])}. Map "
                    f"one to another name."
                )
