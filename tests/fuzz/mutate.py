"""Damages bytes, lines and values, and counts what the product made of it. Shared by the fuzzers in this folder."""

import argparse
import copy
import json
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from flowlab.core.errors import FlowlabError

HANG_S = 10  # of the processor's time: a busy machine is no hang
WAIT_S = 600  # of wall time: nothing waits that long for a lock, on a machine that is busy either
PROGRESS = 50
MOST_SHOWN = 20
MESSAGE_CHARS = 4000  # the longest lists all keys that a lever may set

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 1.5, -0.0, 1e-300, 1e300, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**40,
    float("nan"), float("inf"), "", " ", "a", "normal", "0", "\0", "\ud800", "\u202e", "é" * 70, "x" * 5000, "../../x",
    [], {}, [0], [[]], ["a", "a"], {"a": {"b": 1}}, {"": None}, [None], [1e400], ["\0"],
)  # fmt: skip
"""Values that no writer writes at that place."""

MARKS = (
    b"\0",
    b"\xff",
    b"\n",
    b"\r\n",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\u0000",
    b"\\ud800",
    b"\xe4",
    b" ",
)


def flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 3, 30]) if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def put_marks(content: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice([1, 5])):
        place = chance.randrange(len(content) + 1)
        content = content[:place] + chance.choice(MARKS) + content[place + chance.randrange(2) :]
    return content


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def cut_out(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    return content[:start] + content[start + chance.choice([1, 8, 500]) :]


def extend(content: bytes, chance: random.Random) -> bytes:
    return content + chance.choice([b"\0", b"\0" * 4096, b"}", content, chance.randbytes(9)])


def zeros(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    length = min(chance.choice([1, 512, len(content)]), len(content) - start)
    return content[:start] + bytes(length) + content[start + length :]


def garbage(content: bytes, chance: random.Random) -> bytes:
    return chance.choice(
        [b"", b"null", b"[]", b"{}", b"[" * 20_000, b'"' + b"a" * 9000, chance.randbytes(64), b"1e999"]
    )


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip, flip, put_marks, cut, cut_out, extend, zeros, garbage
)  # fmt: skip


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The bytes after one or two of the mutations above."""
    for mutation in chance.choices(BYTES, k=chance.choice([1, 1, 2])):
        content = mutation(content, chance)
    return content


def lines_moved(content: bytes, chance: random.Random) -> bytes:
    """The lines with one removed, doubled, swapped with another, or put elsewhere."""
    lines = content.split(b"\n")
    for _ in range(chance.choice([1, 1, 4])):
        one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        how = chance.randrange(4)
        if how == 0 and len(lines) > 1:
            del lines[one]
        elif how == 1:
            lines.insert(other, lines[one])
        elif how == 2:
            lines[one], lines[other] = lines[other], lines[one]
        else:
            lines.insert(min(other, len(lines) - 1), lines.pop(one))
    return b"\n".join(lines)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside nested tables and lists."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *places(value[key])]]


def value_changed(value: Any, chance: random.Random, odd: tuple[Any, ...] = ODD) -> Any:
    """A copy of nested tables and lists with some values replaced, removed, added, swapped or nearly the same."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        found = places(value)
        if not found:
            return chance.choice(odd)
        container, key = chance.choice(found)
        how = chance.randrange(6)
        if how == 0:
            del container[key]
        elif how == 1:
            other, name = chance.choice(found)
            container[key] = copy.deepcopy(other[name])
        elif how == 2 and isinstance(container, dict):
            container[chance.choice(["a", "", "kind", "\0", str(key) + "x"])] = chance.choice(odd)
        elif how == 3 and type(container[key]) in (int, float):
            container[key] = chance.choice(
                [container[key] + 1, container[key] - 1, -container[key], container[key] * 1e3]
            )
        elif how == 4 and isinstance(container[key], str) and container[key]:
            container[key] = chance.choice([container[key][:-1], container[key].upper(), container[key] * 2])
        else:
            container[key] = chance.choice(odd)
    return value


def json_changed(content: bytes, chance: random.Random) -> bytes:
    """A JSON text with some of its values changed; now and then nested so deeply that it cannot be read."""
    text = json.dumps(value_changed(json.loads(content), chance))
    return (text if chance.random() < 0.97 else '{"a":' * 3000 + text + "}" * 3000).encode()


@dataclass
class Tally:
    """How many mutants ended how, and the faults: each with what makes it again."""

    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def attempt(self, name: str, look: Callable[[], str]) -> None:
        """Count what `look` says of the mutant `name`; "refused" for a FlowlabError of one sentence.

        An AssertionError is a mutant that was taken for what it is not; other errors are tracebacks; both are faults.
        """

        def stop(_: int, __: FrameType | None) -> None:
            raise TimeoutError

        before = [signal.signal(kind, stop) for kind in (signal.SIGPROF, signal.SIGALRM)]
        signal.setitimer(signal.ITIMER_PROF, HANG_S)
        signal.alarm(WAIT_S)
        try:
            end = look()
        except FlowlabError as error:
            end = "refused"
            if "\n" in str(error) or len(str(error)) > MESSAGE_CHARS or not str(error).strip():
                end = self._fault("NO SENTENCE", name, repr(str(error)[:300]))
        except TimeoutError:
            end = self._fault("HANG", name, traceback.format_exc(limit=-4))
        except AssertionError as error:
            end = self._fault("ALTERED", name, f"{error}\n{traceback.format_exc(limit=-2)}")
        except Exception as error:
            end = self._fault("TRACEBACK", name, f"{str(error)[:300]}\n{traceback.format_exc(limit=-5)}")
        finally:
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_PROF, 0)
            for kind, handler in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
                signal.signal(kind, handler)
        self.ends[end] += 1
        if self.ends.total() % PROGRESS == 0:
            sys.stderr.write(f"{self}\n")

    def _fault(self, kind: str, name: str, told: str) -> str:
        self.faults.append(f"{kind}: {name}: {told}")
        return kind

    def __str__(self) -> str:
        ends = ", ".join(f"{end} {count}" for end, count in self.ends.most_common())
        return f"{self.ends.total()} mutants: {ends}; {len(self.faults)} faults"


def main(run: Callable[[int, int], Tally], count: int) -> None:
    """Run as many mutants as the command line asks for; print one line of counts and the first faults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    tally = run(given.count, given.seed)
    took = f"seed {given.seed}, {time.monotonic() - began:.0f} s"
    sys.stdout.write("\n".join([f"{tally} ({took})", *tally.faults[:MOST_SHOWN], ""]))
    raise SystemExit(bool(tally.faults))
