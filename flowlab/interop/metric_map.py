"""How the keys of another tracker's metrics become flowlab's (metric, channel, slice, readout)."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from flowlab.core.errors import LedgerError, unknown_name

EXAMPLE = "--map val/steering_l1=l1:steering:spike_frame:meank"
FINAL = "final"


class Place(NamedTuple):
    """Where the values of a key go."""

    metric: str
    channel: str
    slice: str
    readout: str


class MetricMap:
    """Places by key. A key without one keeps its name as the metric, over all channels and the slice overall."""

    def __init__(self, places: dict[str, Place], finals: frozenset[str]) -> None:
        self._places = places
        self._finals = finals

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """From "KEY=metric:channel:slice:readout", with ":final" for a key of which the last value alone counts.

        A slice may have a colon in it (slot:1). Raises LedgerError for anything else, and for a key given twice.
        """
        places: dict[str, Place] = {}
        finals = set()
        for text in texts:
            key, equals, told = text.rpartition("=")
            parts = told.split(":")
            is_final = len(parts) > 4 and parts[-1] == FINAL
            parts = parts[:-1] if is_final else parts
            if not equals or not key or len(parts) < 4 or not parts[0] or not all(parts[2:-1]):
                raise LedgerError(f"--map got {text!r}, expected KEY=metric:channel:slice:readout. Example: {EXAMPLE}")
            if key in places:
                raise LedgerError(f"--map names {key!r} twice. Keep one of them.")
            places[key] = Place(parts[0], parts[1], ":".join(parts[2:-1]), parts[-1])
            finals |= {key} if is_final else set()
        return cls(places, frozenset(finals))

    def place(self, key: str) -> Place:
        return self._places.get(key, Place(key, "", "overall", ""))

    def is_final(self, key: str) -> bool:
        """Whether the last value of `key` alone is kept, as what the run ended with."""
        return key in self._finals

    def require_fits(self, keys: Sequence[str]) -> None:
        """Raises UnknownNameError for a mapped key that is not there, LedgerError if two keys go to one place."""
        for key in self._places:
            if key not in keys:
                raise unknown_name("metric", key, keys, "--map")
        owners: dict[Place, str] = {}
        for key in keys:
            first = owners.setdefault(self.place(key), key)
            if first != key:
                raise LedgerError(
                    f"metrics {first!r} and {key!r} would both become {':'.join(self.place(key))}. Map one elsewhere."
                )
