"""One run as one ONNX graph: frames in, raw chunks out, proved against PyTorch before anything is written.

The graph is traced by torch's TorchScript exporter, which needs no package beside `onnx`; onnxruntime computes it.
"""

import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowlab.core.errors import MissingError, PluginError, PolicyError, StudyError, told_by
from flowlab.core.files import write_atomic
from flowlab.core.progress import SILENT, Progress
from flowlab.core.types import MetricRow
from flowlab.core.vocabulary import OVERALL
from flowlab.lab.late_rows import add_rows, read_rows
from flowlab.lab.stitching import Exportable, Feed, describe_feed, sample_feed
from flowlab.policy.foreign import ForeignDecoder
from flowlab.policy.stitched import Stitched

TOLERANCE = 1e-4
"""How far an action of the graph may lie from PyTorch's: that, or that share of the largest action compared."""

OPSET = 17
"""The first with LayerNormalization as one node."""

WINDOWS, DRAWS = 32, 2  # that the two are compared on
MOST_RUNS, MOST_S, FEWEST_RUNS = 20, 5.0, 3  # of a latency: as many as fit into the seconds
INSTALL = "Install it: pip install 'flowlab[onnx]'"
KEY = "flowlab"
"""The graph's metadata have all that is known of it under this key, as JSON."""


@dataclass(frozen=True)
class OnnxExport:
    """A graph on disk: how large it is, how far from PyTorch it lies, and how long one frame takes it."""

    path: Path
    megabytes: float
    num_nodes: int
    difference: float  # the largest |action - PyTorch's|, raw
    num_windows: int  # that it was compared on
    num_draws: int
    latency_ms: dict[int, float]  # number of draws -> median of `num_timed` runs for one frame
    num_timed: dict[int, int]
    pytorch_ms: float  # the same frame with the most draws, in PyTorch with its own threads
    threads: int
    new_rows: int  # that the run did not have


def export_onnx(exportable: Exportable, path: Path, progress: Progress = SILENT) -> OnnxExport:
    """Write the run's policy to `path` as one graph, and what was measured of it to the run.

    Raises MissingError without onnx or onnxruntime, StudyError for a place that is taken, PolicyError for a policy that
    cannot be traced, or whose graph gives other actions than PyTorch: there is then no file.
    """
    _, runtime = require_onnx()
    require_place(path)
    checkpoint = exportable.checkpoint
    draws = 1 if checkpoint.policy.objective.deterministic else checkpoint.evaluation.draws
    feed = sample_feed(exportable, WINDOWS, min(DRAWS, draws))
    with torch.no_grad():
        wanted = exportable.policy(*_arguments(feed)).numpy()
    with progress.task("trace and check the graph", 2, "parts") as task:
        content, num_nodes = _graph(exportable, feed)
        task.advance()
        threads = len(os.sched_getaffinity(0))
        session = _session(runtime, content, threads)
        difference = _compare(exportable, session, feed, wanted)
        task.advance()
    write_atomic(path, content)
    timed = {num: _time(_run_of(session, _one_frame(feed, num))) for num in sorted({1, draws})}
    with torch.no_grad():
        one = _arguments(_one_frame(feed, draws))
        pytorch_ms, _ = _time(lambda: exportable.policy(*one))
    made = OnnxExport(
        path=path,
        megabytes=len(content) / 1e6,
        num_nodes=num_nodes,
        difference=difference,
        num_windows=len(feed["images"]),
        num_draws=feed["noise"].shape[1],
        latency_ms={num: ms for num, (ms, _) in timed.items()},
        num_timed={num: count for num, (_, count) in timed.items()},
        pytorch_ms=pytorch_ms,
        threads=threads,
        new_rows=0,
    )
    return _recorded(exportable, made)


def require_onnx() -> tuple[Any, Any]:
    """The packages onnx and onnxruntime. Raises MissingError where one is not installed."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise MissingError(
            f"a graph needs the libraries onnx and onnxruntime, and one is not installed ({error}). {INSTALL}"
        ) from None
    return onnx, onnxruntime


def require_place(path: Path) -> None:
    """Raises StudyError, before anything is computed, for a file that could not or should not be written."""
    if path.suffix.lower() != ".onnx" or path.is_dir():
        raise StudyError(f"--onnx got {str(path)!r}, expected the name of a file that ends in .onnx.")
    if not path.absolute().parent.is_dir():
        raise StudyError(f"--onnx got {str(path)!r}, and there is no folder {path.parent}. Make it, or name another.")
    if path.exists() and read_told(path) is None:
        raise StudyError(f"--onnx got {str(path)!r}, which is there and is no graph of flowlab. Name another file.")


def read_told(path: Path) -> dict[str, Any] | None:
    """What a graph says of itself; None for a file that flowlab did not write."""
    onnx, _ = require_onnx()
    try:
        model = onnx.load(path, load_external_data=False)
        return next((json.loads(entry.value) for entry in model.metadata_props if entry.key == KEY), None)
    except Exception:  # protobuf's own errors, and whatever the file makes of them
        return None


def trace(policy: Stitched, feed: Feed) -> bytes:
    """The policy as the bytes of one graph, for any number of frames and draws. Raises what the exporter raises."""
    names = list(feed)
    axes: dict[str, dict[int, str]] = {name: {0: "batch"} for name in (*names, "actions")}
    axes["noise"][1] = axes["actions"][1] = "draws"
    two = {name: value[:2] for name, value in feed.items()}
    with TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad(), _nothing_printed():
        path = Path(folder, "policy.onnx")
        warnings.simplefilter("ignore")  # that the exporter is the older one, and that widths are plain numbers
        torch.onnx.export(
            policy.unroll(),
            _arguments(two),
            path,
            input_names=names,
            output_names=["actions"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


@contextmanager
def _nothing_printed() -> Iterator[None]:
    """Without what torch's C++ writes to stdout, past Python: the whole graph, where it cannot export it."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _graph(exportable: Exportable, feed: Feed) -> tuple[bytes, int]:
    """The graph as bytes, with what it is in its metadata, and how many nodes it has."""
    onnx, _ = require_onnx()
    run_id = exportable.checkpoint.run_id
    if isinstance(exportable.policy.decoder, ForeignDecoder):
        raise PluginError(
            f"run {run_id} was trained with the plug-in decoder {exportable.checkpoint.recipe.decoder.kind!r}, which "
            f"is called by torch.func and cannot be traced. Load its weights, policy.safetensors in the run's folder, "
            f"into its own module, and export that"
        )
    try:
        model = onnx.load_from_string(trace(exportable.policy, feed))
    except Exception as error:  # of the exporter, of a plug-in that branches on values, of protobuf's 2 GB
        raise PolicyError(
            f"run {run_id} cannot be written as one graph: {told_by(error).rstrip('.')}. Take the folder with its "
            f"weights: flowlab export {run_id} --to FOLDER"
        ) from None
    model.producer_name, model.doc_string = "flowlab", f"policy of run {run_id}"
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(_told(exportable), sort_keys=True)
    return model.SerializeToString(deterministic=True), len(model.graph.node)


def _told(exportable: Exportable) -> dict[str, Any]:
    """What the graph is, for who has nothing else."""
    checkpoint = exportable.checkpoint
    made = {"evaluation": checkpoint.evaluation.model_dump(mode="json"), "feed": describe_feed(exportable)}
    return {**checkpoint.whose, "encoder": exportable.origin.encoder.digest, **made}


def _session(runtime: Any, content: bytes, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _compare(exportable: Exportable, session: Any, feed: Feed, wanted: NDArray[np.float32]) -> float:
    """The largest difference from PyTorch's actions, over all windows at once and for the first one alone."""
    first = {name: value[:1] for name, value in feed.items()} | {"noise": feed["noise"][:1, :1]}
    found = _run_of(session, feed)()
    alone = _run_of(session, first)()
    difference = max(float(np.abs(found - wanted).max()), float(np.abs(alone - wanted[:1, :1]).max()))
    most = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
    if not difference <= most:
        raise PolicyError(
            f"the graph of run {exportable.checkpoint.run_id} gives actions up to {difference:.2g} from PyTorch's on "
            f"{len(wanted)} validation windows, and {most:.2g} is allowed, so it was not written. Take the folder with "
            f"its weights: --to FOLDER"
        )
    return difference


def _recorded(exportable: Exportable, made: OnnxExport) -> OnnxExport:
    """The same, once the run has its numbers. Those on record stay: another machine has another latency."""
    checkpoint = exportable.checkpoint
    rows = [
        MetricRow("onnx_difference", "", OVERALL, "", made.difference),
        MetricRow("onnx_megabytes", "", OVERALL, "", made.megabytes),
        *(MetricRow("onnx_latency_ms", "", OVERALL, f"draws-{num}", ms) for num, ms in made.latency_ms.items()),
    ]
    there = {key[:4] for key in read_rows(checkpoint.study, checkpoint.run_id)}
    new = [row for row in rows if (row.metric, row.channel, row.slice, row.readout) not in there]
    return replace(made, new_rows=add_rows(checkpoint.study, checkpoint.run_id, new))


def _arguments(feed: Feed) -> tuple[torch.Tensor, ...]:
    """The feed as `Stitched.forward` takes it: its inputs are in that order."""
    return tuple(torch.from_numpy(value) for value in feed.values())


def _one_frame(feed: Feed, num_draws: int) -> Feed:
    noise = np.resize(feed["noise"][0], (1, num_draws, *feed["noise"].shape[2:]))
    return {name: value[:1] for name, value in feed.items()} | {"noise": noise}


def _run_of(session: Any, feed: Feed) -> Any:
    return lambda: session.run(None, feed)[0]


def _time(call: Any) -> tuple[float, int]:
    """The median of how long a call takes in milliseconds, and of how many it is; one goes before."""
    call()
    took: list[float] = []
    while len(took) < MOST_RUNS and (sum(took) < MOST_S or len(took) < FEWEST_RUNS):
        begin = time.perf_counter()
        call()
        took.append(time.perf_counter() - begin)
    return 1000 * statistics.median(took), len(took)
