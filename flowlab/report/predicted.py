"""What runs predict on the validation frames, from the draws that they kept: no policy, cache or GPU is needed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowlab.core.errors import FlowlabError
from flowlab.core.progress import Progress
from flowlab.core.vocabulary import CONTROL
from flowlab.report.campaign import ORDER, Campaign, Record

if TYPE_CHECKING:
    from flowlab.evaluate.draw_bank import DrawBank

MOST_RUNS = 40
SERIES_BYTES = 6_000_000
"""Of the predictions in a page, as text: two bytes a value, four thirds of that in base64. Fewer runs where frames are
many, but two at least."""
MOST_FRAMES = 150_000
"""Of more frames in all, every n-th is shown."""

Key = tuple[str, int]
"""A validation frame: its drive and the frame_index of now."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """N validation frames in the order of drive and time, with the truth and the chunk of each run."""

    channels: tuple[str, ...]
    readout: str  # mean or median of the draws
    drive_ids: tuple[str, ...]
    drive: NDArray[np.int64]  # (N,) positions in drive_ids
    now: NDArray[np.int64]  # (N,) frame_index
    time_us: NDArray[np.int64]  # (N,)
    truth: NDArray[np.float32]  # (N, H, A) raw
    runs: dict[str, NDArray[np.float32]]  # run id -> (N, H, A) raw
    left_out: list[str]  # sentences


Kept = dict[str, tuple[str, "Drawn"]]
"""Chunks that were read before, by run id, with the digest of their bank: what `--serve` reads once."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """One run's chunks (N, H, A), with the frames that they are for."""

    keys: list[Key]
    chunk: NDArray[np.float32]
    truth: NDArray[np.float32]
    time_us: NDArray[np.int64]
    channels: tuple[str, ...]


def read_predicted(campaign: Campaign, progress: Progress, kept: Kept) -> Predicted | str:
    """The predictions of the runs that a reader asks for first; a sentence instead where there are none to show.

    First the control and one run of each lever, in the order of verdicts, then their other seeds. Rows of screens are
    no levers, and left out.
    """
    try:
        from flowlab.evaluate import draw_bank  # noqa: F401  it brings torch and zarr
    except ImportError as error:
        return f"Predictions are not shown: {error.name} is not installed here."
    chosen = _chosen(campaign)
    with_draws = [run for run in chosen if (campaign.study.runs / run["run_id"] / "draws.zarr").is_dir()]
    if not with_draws:
        return "No run has kept its draws here, so there are no predictions to show."
    digests = {row["run_id"]: row["digest"] for row in campaign.ask(DIGESTS)}
    found: dict[str, Drawn] = {}
    notes: list[str] = []
    with progress.task("read draws", min(len(with_draws), MOST_RUNS), "runs") as task:
        for run in with_draws:
            if len(found) >= _most(next(iter(found.values()), None)):
                break
            try:
                drawn = _drawn(campaign, run["run_id"], digests.get(run["run_id"], ""), kept)
            except FlowlabError as error:
                notes.append(str(error))
                continue
            finally:
                task.advance()
            first = next(iter(found.values()), drawn)
            if set(first.keys) - set(drawn.keys) or drawn.channels != first.channels:
                notes.append(f"{run['run_id']} was scored on other frames, and is not beside the others.")
                continue
            found[run["run_id"]] = drawn
    if not found:
        return f"No draws can be read: {notes[0]}"
    left = len(with_draws) - len(found) - len(notes)
    notes += [f"{left} more runs have draws, and are left out to keep this file small."] if left else []
    return _together(found, READOUTS.get(campaign.primary.readout, "mean"), notes)


DIGESTS = "select run_id, arg_max(digest, position) as digest from artifacts where name = 'draws.zarr' group by run_id"
READOUTS = {"mediank": "median"}
"""What is shown of the draws where the primary metric is of that readout; of all others their mean."""


def _chosen(campaign: Campaign) -> list[Record]:
    """Finished runs of the study in the order in which they are shown, the first seeds first."""
    own = [run for run in campaign.runs if run["status"] == "finished" and run["run_id"] not in campaign.screen_of]
    nth: dict[str, int] = {}
    ranked = []
    for run in own:
        lever = run["lever"]
        nth[lever] = nth.get(lever, -1) + 1
        verdict = campaign.decision_of(lever)
        effect = -(verdict.effect or 0.0) if verdict else 0.0
        order = ORDER[verdict.decision] if verdict else ORDER[""]
        ranked.append(((nth[lever], lever != CONTROL, order, effect, lever), run))
    return [run for _, run in sorted(ranked, key=lambda pair: pair[0])]


def _most(first: Drawn | None) -> int:
    """How many runs fit into a page."""
    if first is None:
        return MOST_RUNS
    num = min(len(first.keys), MOST_FRAMES)
    return int(np.clip(SERIES_BYTES * 3 // (8 * num * len(first.channels)) - 1, 2, MOST_RUNS))


def _drawn(campaign: Campaign, run_id: str, digest: str, kept: Kept) -> Drawn:
    """The run's chunks. Raises DrawBankError for draws that are not those that its journal names."""
    from flowlab.core.errors import DrawBankError
    from flowlab.evaluate.draw_bank import digest_bank, read_bank

    path = campaign.study.runs / run_id / "draws.zarr"
    if run_id in kept and kept[run_id][0] == digest:
        return kept[run_id][1]
    if digest_bank(path) != digest:
        raise DrawBankError(f"{run_id}: its draws are not what its journal names, and are not shown.")
    clip = bool(campaign.settings.get(run_id, {}).get("evaluation.clip", False))
    drawn = _read_out(read_bank(path), clip, READOUTS.get(campaign.primary.readout, "mean"), path)
    kept[run_id] = (digest, drawn)
    return drawn


def _read_out(bank: "DrawBank", clip: bool, how: str, path: Any) -> Drawn:
    """One chunk of each frame's draws."""
    import zarr

    from flowlab.evaluate.draw_bank import to_raw
    from flowlab.evaluate.metrics import clipped
    from flowlab.evaluate.stats import space_from_json

    group = zarr.open_group(str(path), mode="r")
    truth, time_us = (np.asarray(group[name][:]) for name in ("truth", "time_us"))  # type: ignore[index]
    channels = tuple(bank.told["channels"])
    raw = to_raw(bank.model, space_from_json(dict(bank.told["action_space"])), truth.shape[1])
    chunk = np.median(raw, axis=1) if how == "median" else raw.mean(axis=1, dtype=np.float64)
    chunk = clipped(chunk, channels) if clip else chunk
    keys = [(bank.drive_ids[drive], now) for drive, now in zip(bank.drive.tolist(), bank.now.tolist(), strict=True)]
    return Drawn(keys, chunk.astype(np.float32), truth.astype(np.float32), time_us.astype(np.int64), channels)


def _together(found: dict[str, Drawn], how: str, notes: list[str]) -> Predicted:
    """The runs on the frames of the first, drive by drive in the order of time."""
    first = next(iter(found.values()))
    order = sorted(range(len(first.keys)), key=lambda row: (first.keys[row][0], first.time_us[row]))
    every = -(-len(order) // MOST_FRAMES)
    if every > 1:
        notes.append(f"Of {len(order):,} frames every {every}th is shown.")
    order = order[::every]
    keys = [first.keys[row] for row in order]
    drive_ids = tuple(dict.fromkeys(drive for drive, _ in keys))
    place = {name: index for index, name in enumerate(drive_ids)}
    runs = {}
    for run_id, drawn in found.items():
        row_of = {key: row for row, key in enumerate(drawn.keys)}
        runs[run_id] = drawn.chunk[[row_of[key] for key in keys]]
    return Predicted(
        first.channels,
        how,
        drive_ids,
        np.array([place[drive] for drive, _ in keys], np.int64),
        np.array([now for _, now in keys], np.int64),
        first.time_us[order],
        first.truth[order],
        runs,
        notes,
    )
