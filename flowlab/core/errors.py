"""Errors that a user can act on: what, got, expected, next step, in one sentence. The CLI prints them, exits with 2."""

import difflib
from collections.abc import Iterable

MOST_LISTED = 700  # characters of all the names there are
MOST_NEAREST = 8


class FlowlabError(Exception):
    """A promise that was broken by input or by the state on disk, never by a defect in flowlab."""


class StudyError(FlowlabError):
    """experiments.toml cannot be read as a study."""


class UnknownNameError(FlowlabError):
    """A name that is not in its list; the message carries the nearest one that is."""


class MissingError(FlowlabError):
    """Something that an earlier command makes is not there yet."""


class DriveError(FlowlabError):
    """A recording cannot be read as a drive."""


class FaultyDriveError(DriveError):
    """More rows of a recording fail for one reason than a study allows: what is left of it would be another drive."""


class LeftOutDriveError(DriveError):
    """A recording among many that cannot be used and does not stand for the others: they are used without it.

    `reason` is the same text for all that fail in one way; the message says which drive, and what is wrong with it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)  # both, so that a worker's error reaches its parent whole
        self.reason, self.message = reason, message

    def __str__(self) -> str:
        return self.message


class StoppedError(FlowlabError):
    """Ctrl-C ended what keeps nothing of what it had begun; the message says so, and how to go on."""


class EncoderError(FlowlabError):
    """A frozen encoder cannot be read as one."""


class CacheBuildError(FlowlabError):
    """A cache cannot be built, or not to its end."""


class CacheMismatchError(FlowlabError):
    """A cache is not the one that the recipe names."""


class CacheLayoutError(FlowlabError):
    """A cache was written with other arrays than this flowlab reads."""


class CacheCorruptError(FlowlabError):
    """A cache's files are not the ones that were written."""


class DivergedError(FlowlabError):
    """A run's numbers have stopped being finite."""


class PluginError(FlowlabError):
    """A plug-in does not keep what its protocol promises."""


class PolicyError(FlowlabError):
    """A policy's file does not say what it is, or its weights do not fit."""


class DrawBankError(FlowlabError):
    """Stored draws are not what was kept, or are of something else."""


class ResumeError(FlowlabError):
    """What a run was to go on from is not what it kept."""


class RuleChangedError(FlowlabError):
    """A sealed rule and the rule in experiments.toml differ."""


class RuleRefusedError(FlowlabError):
    """A rule, or a change of one, that must not be sealed."""


class EvaluationMismatchError(FlowlabError):
    """Two runs were not evaluated in one way, so their numbers may not be compared."""


class NotStackedError(FlowlabError):
    """The sealed rule does not say `stack`, or the base is not what the ledger says."""


class LedgerError(FlowlabError):
    """The ledger cannot be opened, or refuses a question."""


class ChainBrokenError(FlowlabError):
    """A row, an entry or a journal is not the one that the ledger's chain was made of."""


class RunFailedError(FlowlabError):
    """A worker ended before its runs did."""


class LoopStoppedError(FlowlabError):
    """The loop ends where it is, for somebody to decide."""


class DiskError(FlowlabError):
    """The file system refused to keep something."""


class StoreError(FlowlabError):
    """An object store cannot be reached, or refuses."""


class BusyError(FlowlabError):
    """Another process holds what this one needs."""


class CannotWriteError(FlowlabError):
    """This user or this file system does not let flowlab write. `short` says it without the next step."""

    def __init__(self, short: str, advice: str) -> None:
        super().__init__(short, advice)  # both, so that a worker's error reaches its parent whole
        self.short, self.advice = short, advice

    def __str__(self) -> str:
        return f"{self.short}. {self.advice}"


class NoAccessError(CannotWriteError):
    """A file of the study that this user may not write."""

    def __init__(self, path: object, advice: str = "Ask for write access to the study, or work on a copy.") -> None:
        super().__init__(f"you may not write {path}", advice)
        self.args = (path, advice)


class NoLocksError(CannotWriteError):
    """A file system without file locks."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(
            f"{path} cannot be locked: locks are what is missing on this file system (flock: {reason})",
            "They keep two processes from writing at once. Put the study on a local disk, or have this file system "
            "mounted with locks (Lustre: -o flock; NFS: with its lock service).",
        )
        self.args = (path, reason)


MOST_TOLD = 300


def told_by(error: Exception) -> str:
    """What a library's error says, as part of one sentence: its first line, and no more than 300 characters of that."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first if len(first) <= MOST_TOLD else f"{first[:MOST_TOLD]}..."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation was refused: by Python, by CUDA, or by torch's allocator on a CPU, which has no class."""
    refused = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return refused or "can't allocate memory" in str(error)


def unknown_name(kind: str, got: str, known: Iterable[str], where: str = "") -> UnknownNameError:
    """The error for `got` not being one of `known`, with the nearest name first and all names after it.

    Of more than fit into a few lines the nearest are listed.
    """
    names = sorted(known)
    near = difflib.get_close_matches(got, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(names) if names else "none"
    if len(listed) > MOST_LISTED:
        nearest = difflib.get_close_matches(got, names, n=MOST_NEAREST, cutoff=0.0)
        listed = f"{', '.join(nearest)} and {len(names) - len(nearest)} more"
    place = f" in {where}" if where else ""
    return UnknownNameError(f"unknown {kind} {got!r}{place}: {hint}Known: {listed}.")
