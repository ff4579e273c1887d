"""The executor `ray`: runs spread over the nodes of a Ray cluster that share the study's folder."""

import multiprocessing
import os
import pickle
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from flowlab.core.errors import MissingError, RunFailedError, StudyError
from flowlab.core.locks import hold, is_held
from flowlab.core.progress import SILENT, Progress
from flowlab.lab.children import ignored_interrupt
from flowlab.lab.ground import Ground
from flowlab.lab.plan import PlannedRun
from flowlab.lab.processes import share_out
from flowlab.lab.ray_driver import LOCAL, STOP_S, TOKEN, Ask, drive
from flowlab.lab.ray_worker import PACKAGES, Job
from flowlab.lab.reported import AGAIN, Shown
from flowlab.study.study import Study

ADDRESS_VARIABLE = "RAY_ADDRESS"  # which `ray job submit` sets
AUTO = "auto"
KNOCK_S = 5.0
REACH_S = 30.0
START_S = 120.0
NEW_S = 60.0  # within that a token may be there and not locked yet
MOST_LOSSES = 3
GONE = "killed, out of memory, or its node is gone"
START_ONE = "Start one: ray start --head"


@dataclass(frozen=True)
class Ray:
    """One worker process for each CPU of a Ray cluster, or each GPU (core.plugins.Executor).

    `address` is HOST:PORT or "auto"; without it, that of the variable RAY_ADDRESS, else a cluster of this machine alone
    is started and ended with the work.
    """

    device: torch.device
    address: str = ""

    def execute(self, study: Study, ground: Ground, runs: list[PlannedRun], progress: Progress = SILENT) -> None:
        """Train and evaluate `runs`. Raises MissingError for a cluster that cannot, the first worker's FlowlabError,
        or RunFailedError.
        """
        with connected(self.device, self.address, progress) as cluster, held_token(study.runs) as token:
            shares = share_out(runs, min(len(runs), cluster.slots))
            versions = tuple((name, version(name)) for name in PACKAGES)
            jobs = []
            for slot, share in enumerate(shares):
                payload = pickle.dumps((study, ground, share, self.device))
                jobs.append(Job(slot, payload, str(study.root), str(token), _caches(ground, share), versions))
            cluster.pipe.send(jobs)
            _follow(cluster, len(shares), progress)


@dataclass(frozen=True)
class Cluster:
    """A cluster that was reached, through a process of its own."""

    pipe: Connection
    slots: int  # workers that it has room for, when nobody else is at it
    told: str  # for a message

    def hear(self) -> tuple[Any, ...]:
        """The next that happens. Raises RunFailedError once there is no connection any more."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            raise RunFailedError(f"{self.told} is lost. What its workers had done is kept. {AGAIN}") from None


def count_slots(device: torch.device, address: str) -> int:
    """How many workers the cluster has room for; of one that would be started here, without starting it."""
    where = _where(address)
    if where == LOCAL:
        return torch.cuda.device_count() if device.type == "cuda" else len(os.sched_getaffinity(0))
    with connected(device, address) as cluster:
        return cluster.slots


@contextmanager
def connected(device: torch.device, address: str, progress: Progress = SILENT) -> Iterator[Cluster]:
    """A cluster, reached. Raises MissingError in one sentence, within seconds, where that cannot be."""
    where = _where(address)
    told = "a Ray cluster of this machine" if where == LOCAL else f"the Ray cluster at {where}"
    ask = Ask(where, device.type == "cuda", len(os.sched_getaffinity(0)), MOST_LOSSES)
    context = multiprocessing.get_context("spawn")
    pipe, other_end = context.Pipe()
    driver = context.Process(target=drive, args=(other_end, ask), daemon=True)
    with ignored_interrupt():
        driver.start()
    other_end.close()
    is_reached = False
    try:
        with progress.under_way(f"{'start' if where == LOCAL else 'reach'} {told}"):
            slots = _reach(pipe, told, ask)
        is_reached = True
        yield Cluster(pipe, slots, told)
    finally:
        pipe.close()
        if is_reached:  # else it may wait for an answer, and hears no signal
            driver.terminate()
            driver.join(STOP_S)
        driver.kill()
        driver.join()


@contextmanager
def held_token(runs: Path) -> Iterator[Path]:
    """A file in the folder of runs with a name that nobody can know, locked: who sees it and its lock shares both."""
    runs.mkdir(parents=True, exist_ok=True)
    for left in runs.glob(".cluster-*"):  # by a command that was killed, which could not remove it
        with suppress(FileNotFoundError):  # another one has just done so
            if time.time() - left.stat().st_mtime > NEW_S and not is_held(left):
                left.unlink()
    token = runs / f".cluster-{uuid4().hex}"
    try:
        with hold(token):
            yield token
    finally:
        token.unlink(missing_ok=True)


def _caches(ground: Ground, share: list[PlannedRun]) -> tuple[str, ...]:
    """The folders that a share's runs are trained from; what lies in an object store is read there, so is not named."""
    supplies = [ground.supplies[item.run.lever] for item in share]
    caches = [ground.frames_cache, *(cache for supply in supplies for cache in (supply.cache, supply.stats_cache))]
    paths = {cache.path for cache in caches if isinstance(cache.path, Path)}
    return tuple(sorted(str(path) for path in paths if path.is_dir()))


def _where(address: str) -> str:
    """The address for Ray. Raises MissingError without Ray or an answer, StudyError for what is no address."""
    if find_spec("ray") is None:
        raise MissingError("--executor ray needs Ray, which is not installed: pip install 'flowlab[ray]'")
    asked_by = "--address" if address else ADDRESS_VARIABLE
    address = address or os.environ.get(ADDRESS_VARIABLE, "") or LOCAL
    if address in (LOCAL, AUTO):
        return address
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise StudyError(
            f"{asked_by} got {address!r}, expected HOST:PORT of a Ray cluster that this machine is a node of, or auto. "
            f"Example: 10.0.0.1:6379"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise MissingError(f"nothing answers at {address} ({error}). {START_ONE}, or correct {asked_by}.") from None
    return address


def _reach(pipe: Connection, told: str, ask: Ask) -> int:
    """How many workers the cluster has room for, once it has answered."""
    patience_s = START_S if ask.address == LOCAL else REACH_S
    if not pipe.poll(patience_s):
        raise MissingError(
            f"{told} did not answer within {patience_s:.0f} s. Look whether it is one (ray status), and whether this "
            f"machine is a node of it: ray start --address HOST:PORT"
        )
    try:
        slots, why = pipe.recv()
    except EOFError:
        slots, why = 0, "Ray ended without a word"
    if why == TOKEN:
        raise MissingError(
            f"{told} asks for {TOKEN} which it did not get. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the one "
            f"that it was started with, where that is not in ~/.ray/auth_token."
        )
    if why:
        raise MissingError(f"{told} cannot be reached: {why.rstrip('.')}. {START_ONE}, or correct --address.")
    if not slots:
        raise MissingError(f"{told} has no {ask.kind} now. Add a node that has one: ray start --address HOST:PORT")
    return slots


def _follow(cluster: Cluster, num_workers: int, progress: Progress) -> None:
    """Show what the workers report until all have ended; then raise the first error that one of them had."""
    starting = f"start {num_workers} worker{'s' * (num_workers > 1)} on {cluster.told}"
    with Shown(progress, num_workers, starting) as shown:
        while not shown.all_ended:
            slot, kind, *rest = cluster.hear()
            if kind == "lost":
                shown.close(slot)
                progress.say(f"worker {slot + 1} was lost ({GONE}): another goes on from what its runs had kept")
            elif kind == "refused":
                raise MissingError(f"{cluster.told} cannot train this study: {rest[0]}")
            elif kind == "given up":
                shown.take(slot, "error", RunFailedError(f"worker {slot + 1} was lost too often ({GONE}). {AGAIN}"))
            elif kind == "failed":
                shown.take(slot, "error", RunFailedError(f"worker {slot + 1} failed: {rest[0]}. {AGAIN}"))
            else:
                shown.take(slot, kind, *rest)
    shown.raise_first()
