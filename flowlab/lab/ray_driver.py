"""The process between a command and a Ray cluster.

Ray prints, changes signal handlers, waits minutes for an address that does not answer, and ends the process that has
lost its cluster. All that happens here, where nobody sees it: the command talks with this process through a pipe.
"""

import importlib
import os
import sys
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from typing import Any

from flowlab.core.errors import MOST_TOLD
from flowlab.lab import ray_worker
from flowlab.lab.children import die_with
from flowlab.lab.ray_worker import Job

LOCAL = "local"
TOKEN = "a token"  # told in the place of a reason, where that is what Ray lacks
STORE_BYTES = 100_000_000  # shared memory of a cluster that is started here: what passes through it are settings
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
STOP_S = 10.0
LOOK_S = 10.0  # of silence, after which it is asked whether this machine is still a node


@dataclass(frozen=True)
class Ask:
    """What is wanted of a cluster: where it is, and what one worker takes of it."""

    address: str  # LOCAL: one is started on this machine, for this command
    is_cuda: bool
    num_cpus: int  # of this machine, for one that is started here
    most_losses: int  # of workers at one job: the next one gives it up

    @property
    def kind(self) -> str:
        return "GPU" if self.is_cuda else "CPU"


def drive(pipe: Connection, ask: Ask) -> None:
    """Main function of the process. Tells (slots, "") or (0, why not); then takes jobs, and tells what happens to them.

    That are the events of its workers, each with its slot before it, and of a worker that is gone "lost" or "given up".
    """
    parent = parent_process()
    assert parent is not None and parent.pid is not None
    die_with(parent.pid)
    _be_quiet()
    ray = importlib.import_module("ray")
    try:
        connect(ray, ask)
    except Exception as error:
        pipe.send((0, why_not(error)))
        return
    try:
        pipe.send((int(ray.cluster_resources().get(ask.kind, 0)), ""))
        _Workers(ray, ask, pipe).work(pipe.recv())
    except EOFError:
        return  # the command only wanted to know
    finally:
        ray.shutdown()


def connect(ray: Any, ask: Ask) -> None:
    """Become a driver of the cluster."""
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "namespace": "flowlab"}
    if ask.address == LOCAL:
        options |= {"num_cpus": ask.num_cpus, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    ray.init(address=ask.address, **options)


def why_not(error: Exception) -> str:
    """What Ray says, in one line: of a traceback that it quotes, the end. TOKEN where that is what it lacks."""
    text = str(error.__cause__ or error).strip() or type(error).__name__
    if "InvalidAuthToken" in text or "AuthenticationError" in text:
        return TOKEN
    told = text.splitlines()[-1] if "Traceback" in text else " ".join(text.split())
    return told[:MOST_TOLD]


def _be_quiet() -> None:
    """Send nothing to Ray's makers, and nothing to the screen."""
    os.environ.update(QUIET)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


class _Workers:
    """The actors of a command, each at its job until that has ended."""

    def __init__(self, ray: Any, ask: Ask, pipe: Connection) -> None:
        self.ray, self.ask, self.pipe = ray, ask, pipe
        ray.cloudpickle.register_pickle_by_value(ray_worker)
        resources = {"num_cpus": 1, "num_gpus": 1 if ask.is_cuda else 0}
        self.kind = ray.remote(**resources, max_restarts=0)(ray_worker.Worker)
        self.actors: dict[int, Any] = {}
        self.asked: dict[Any, int] = {}  # by what was asked of it and not answered yet: the slot

    def work(self, jobs: list[Job]) -> None:
        """Have all of them done. A job whose worker is lost is given to another, a few times."""
        losses = dict.fromkeys(range(len(jobs)), 0)
        try:
            for job in jobs:
                self._begin(job)
            while self.asked:
                ready, _ = self.ray.wait(list(self.asked), num_returns=1, timeout=LOOK_S)
                if not ready:
                    self._require_own_node()
                    continue
                answer = ready[0]
                slot = self.asked.pop(answer)
                try:
                    events = self.ray.get(answer)
                except self.ray.exceptions.RayError:
                    losses[slot] += 1
                    is_given_up = losses[slot] > self.ask.most_losses
                    self.pipe.send((slot, "given up" if is_given_up else "lost"))
                    if not is_given_up:
                        self._begin(jobs[slot])
                    continue
                for event in events:
                    self.pipe.send((slot, *event))
                if events[-1][0] in ("done", "error", "refused", "failed"):
                    del self.actors[slot]  # whose process ends with the last reference to it
                else:
                    self._listen(slot)
        finally:
            self._stop()

    def _require_own_node(self) -> None:
        """End this process where this machine is no node of the cluster any more: it would hear of nothing again."""
        own = self.ray.get_runtime_context().get_node_id()
        if not any(node["Alive"] and node["NodeID"] == own for node in self.ray.nodes()):
            sys.exit(1)

    def _begin(self, job: Job) -> None:
        self.actors[job.slot] = self.kind.remote(job)
        self._listen(job.slot)

    def _listen(self, slot: int) -> None:
        self.asked[self.actors[slot].told.remote()] = slot

    def _stop(self) -> None:
        """End what still works, and wait until it is gone."""
        for slot in self.asked.values():
            self.ray.kill(self.actors[slot])
        if self.asked:
            self.ray.wait(list(self.asked), num_returns=len(self.asked), timeout=STOP_S)
