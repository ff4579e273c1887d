"""Where runs are trained: the device, the executor, and the cluster if there is one."""

import os
from dataclasses import dataclass
from functools import cached_property

import torch

from flowlab.core.errors import StudyError
from flowlab.core.plugins import Executor, resolve
from flowlab.lab.conditions import memory_limit
from flowlab.lab.environment import choose_device, choose_executor


@dataclass(frozen=True)
class Where:
    """On which device runs are trained, by which executor, and on which cluster if it is `ray`."""

    device: torch.device
    executor: str
    address: str = ""

    @cached_property
    def slots(self) -> int:
        """How many workers train at once."""
        if self.executor == "ray":
            from flowlab.lab.ray_cluster import count_slots

            return count_slots(self.device, self.address)
        return 1 if self.executor == "inline" else len(os.sched_getaffinity(0))

    @classmethod
    def chosen(cls, device: str, executor: str, address: str | None = None) -> "Where":
        """From what the command line says, "auto" among it.

        Raises MissingError for a device or a cluster that is not there, StudyError for an address without use, or for a
        limit of memory that is no number, which each worker would find else once it has begun its runs.
        """
        memory_limit()
        found = choose_device(device)
        if address is not None and not address.strip():  # such as that of a variable which is not set
            raise StudyError(
                "--address is empty, expected HOST:PORT of a Ray cluster, or auto. Give one, or leave it out."
            )
        where = cls(found, choose_executor(executor, found), address or "")
        if where.executor == "ray":
            _ = where.slots  # a cluster that does not answer is told before anything is built
        elif address:
            raise StudyError(
                f"--address names a Ray cluster, and --executor {where.executor} uses none: add --executor ray, or "
                f"leave --address out."
            )
        return where

    def make_executor(self) -> Executor:
        """The executor, ready to be given runs."""
        kind = resolve("executors", self.executor)
        return kind(self.device, self.address) if self.address else kind(self.device)
