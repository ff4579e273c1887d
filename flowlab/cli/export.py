"""`flowlab export`: a finished run as one ONNX graph, or as a folder of weights that needs no study."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowlab.cli import judge
from flowlab.cli.options import JsonOption, StudyOption, open_study
from flowlab.cli.screen import Bars, out, print_json
from flowlab.core.errors import StudyError

if TYPE_CHECKING:
    from flowlab.lab.export_folder import FolderExport
    from flowlab.lab.onnx_export import OnnxExport


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or what no other id begins with.")],
    onnx: Annotated[
        Path | None, typer.Option("--onnx", metavar="FILE.onnx", help="One graph, checked against PyTorch and timed.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Weights as safetensors, and one JSON file.")
    ] = None,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a finished run, stitched to its frozen encoder, as one ONNX graph or as a folder that needs no study."""
    if onnx is None and to is None:
        raise StudyError("give --onnx FILE.onnx, --to FOLDER or both: that is where the run goes.")
    found = open_study(study)

    from flowlab.lab import export_folder, onnx_export
    from flowlab.lab.checkpoints import open_checkpoint
    from flowlab.lab.predictions import find_run
    from flowlab.lab.stitching import stitch
    from flowlab.ledger.ingest import require_writable

    if onnx is not None:
        onnx_export.require_onnx()
        onnx_export.require_place(onnx)
        require_writable(found.ledger, found.runs)
    if to is not None:
        export_folder.require_place(to)
    exportable = stitch(open_checkpoint(found, find_run(found, run)))
    made: dict[str, Any] = {"run_id": exportable.checkpoint.run_id}
    if to is not None:
        folder = export_folder.export_folder(exportable, to)
        made["to"] = asdict(folder)
    if onnx is not None:
        graph = onnx_export.export_onnx(exportable, onnx, Bars())
        judge.ingest_all(found)
        made["onnx"] = asdict(graph)
    if as_json:
        print_json(made)
        return
    for line in [*(_of_folder(folder) if to is not None else ()), *(_of_graph(graph) if onnx is not None else ())]:
        out().print(line, soft_wrap=True)


def _of_folder(made: "FolderExport") -> list[str]:
    return [
        f"{made.path}: {', '.join(made.files)} ({made.megabytes:.1f} MB)",
        "docs/full-path.md has the lines that load it; with flowlab: flowlab.load_policy(FOLDER)",
    ]


def _of_graph(made: "OnnxExport") -> list[str]:
    """Size, parity and latency, a line each."""
    lines = [
        f"{made.path}: {made.megabytes:.1f} MB, {made.num_nodes:,} nodes",
        f"  within {made.difference:.1e} of PyTorch on {made.num_windows} validation windows x {made.num_draws} draws",
    ]
    for num, ms in made.latency_ms.items():
        lines.append(
            f"  {ms:.1f} ms for a frame, {num} draw{'s' * (num > 1)} (median of {made.num_timed[num]}, onnxruntime, "
            f"CPU, {made.threads} thread{'s' * (made.threads > 1)})"
        )
    lines.append(f"  {made.pytorch_ms:.1f} ms for the same as the last in PyTorch")
    return lines if made.new_rows else [*lines, "  the ledger keeps the numbers of this run's first export"]
