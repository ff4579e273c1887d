"""What runs on a cluster's node: one share of the runs, in a process of Ray's own.

This module travels to the node by value, so that a node without flowlab can say so. Nothing of flowlab is therefore
imported before it was looked for.
"""

import importlib.metadata
import os
import pickle
import platform
import queue
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGES = ("flowlab", "torch", "numpy")  # with other versions of these, a run would not have the bits that it has here


@dataclass(frozen=True)
class Job:
    """A share of the runs, and what a node must have to train it."""

    slot: int
    payload: bytes  # pickled: study, ground, runs, device
    plugins: str  # the folder where modules beside experiments.toml are found
    token: str  # a file in the folder of runs that the command holds the lock of
    caches: tuple[str, ...]  # folders that the runs are trained from
    versions: tuple[tuple[str, str], ...]  # of PACKAGES, where the command runs


class Worker:
    """An actor: it begins as it is made, and is asked what there is to tell until it says that it is done."""

    def __init__(self, job: Job) -> None:
        self.events: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        threading.Thread(target=self._work, args=(job,), daemon=True).start()

    def told(self) -> list[tuple[Any, ...]]:
        """What happened since the last time that it was asked: waits for one event at least."""
        events = [self.events.get()]
        while not self.events.empty():
            events.append(self.events.get())
        return events

    def _work(self, job: Job) -> None:
        began = time.monotonic()
        try:
            refusal = refuse(job)
            if refusal:
                self._put("refused", refusal)
                return
            sys.path.append(job.plugins)
            from flowlab.lab.children import die_with
            from flowlab.lab.reported import train_reported

            die_with(os.getppid())  # without its node's Ray it would go on, and keep its runs from whoever takes over

            study, ground, runs, device = pickle.loads(job.payload)
            import_s = time.monotonic() - began
            self._put("ready")
            train_reported(study, ground, runs, device, import_s, self._put, f"worker {job.slot + 1}")
        except BaseException as error:  # whatever it is, somebody waits to hear of it
            lines = str(error).strip().splitlines() or [""]
            self._put("failed", f"{platform.node()}: {type(error).__name__}: {lines[0]}")

    def _put(self, *event: Any) -> None:
        self.events.put(event)


def refuse(job: Job) -> str:
    """Why this node cannot train the study's runs as the command's own machine would; "" if it can."""
    node, token = platform.node(), Path(job.token)
    for name, version in job.versions:
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return f"{node} has no {name} in the environment of its Ray. Install there what this machine has."
        if here != version:
            return f"{node} has {name} {here}, and this machine {version}. Install there what this machine has."
    if not token.is_file():
        return (
            f"{node} does not see {token.parent}. Put the study on a file system that all nodes share, at one path on "
            f"all of them."
        )
    from flowlab.core.locks import is_held

    if not is_held(token):
        return (
            f"{node} sees {token.parent}, but not this machine's locks on it, which keep two workers from one run. "
            f"Have the file system mounted with locks (Lustre: -o flock; NFS: with its lock service)."
        )
    for cache in job.caches:
        if not Path(cache).is_dir():
            return f"{node} does not see the cache {cache}. Put it on the file system that all nodes share."
    return ""
