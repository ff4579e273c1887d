"""A Ray cluster of one node with two CPUs, in processes of its own, for tests. As a script, this is the cluster."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CPUS = 2
STORE_BYTES = 80_000_000


@contextmanager
def alone(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray's files of these tests in a folder of their own, short enough for sockets; no token in anybody's home."""
    folder = tempfile.mkdtemp(prefix="flowlab-ray-", dir="/tmp")
    for name, value in {"RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}.items():
        patch.setenv(name, value)
    patch.delenv("RAY_ADDRESS", raising=False)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running() -> Iterator[str]:
    """The address of a cluster that is there until the end."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("")  # the end of its input is the cluster's end, also when pytest is killed


def _be_it() -> None:
    from ray.cluster_utils import Cluster

    told = os.dup(1)
    os.dup2(2, 1)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": CPUS, "include_dashboard": False, "object_store_memory": STORE_BYTES},
    )
    os.write(told, f"{cluster.address}\n".encode())
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    _be_it()
