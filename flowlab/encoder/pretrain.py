"""Pretraining on the train drives, in two stages, each cheap because it computes only what it teaches.

`drive-vit` passes both. Over a frozen model of transformers there is the second alone, and no jitter.

Objective. The frozen tokens must let a small cross-attending decoder draw the next chunk, so that is what is asked:

1. The image part learns alone, one frame at a time: its features predict the distribution of the next chunk.
2. The image part is frozen and every frame encoded. The window part learns on those features: slot queries that attend
   to the tokens predict the same distribution; the history token must give back every past action and speed through
   one linear map, and each waypoint token its waypoint. The action history is zeroed for a share of the samples
   (`history_dropout`), so that the no-history variant of a cache is something this encoder has seen.

Distributions are histograms (two-hot targets, cross-entropy) and not means: real steering is spiky and has several
modes, and a mean would let the features forget which. Frames are jittered in place, brightness and contrast, in both
stages, so that the features of train frames look like those of frames never seen.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.core.plugins import Source
from flowlab.core.progress import SILENT, Progress
from flowlab.core.seeds import derive_seed
from flowlab.encoder.adamw import AdamWGroup
from flowlab.encoder.drive_vit import SPEED_SCALE_MPS, WAYPOINT_SCALE_M, DriveViT
from flowlab.encoder.heads import ActionBins, FrameHead, TokenHeads
from flowlab.encoder.huggingface import HuggingFaceEncoder
from flowlab.encoder.train_set import TrainSet, read_train_set
from flowlab.encoder.transformer import initialise
from flowlab.study.huggingface import TemporalSettings
from flowlab.study.settings import DriveViTSettings, WindowSettings

PRETRAINING_VERSION = 1
NUM_JITTERS = 4
JITTER_PIXELS = 2
JITTER_LIGHT = 0.3
PAST_WEIGHT = 10.0
BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.05
WARMUP_SHARE = 0.1
CLIP_NORM = 1.0
ENCODE_BLOCK = 256
REPORT_SHARE = 0.1


def train_encoder(
    source: Source,
    train_ids: Sequence[str],
    settings: DriveViTSettings,
    windows: WindowSettings,
    progress: Progress = SILENT,
    device: torch.device | str = "cpu",
) -> DriveViT:
    """A DriveViT trained on the drives `train_ids`, frozen; its `summary` has the losses beside those of no knowledge.

    No other drive is opened. All frames of those drives are held in memory as uint8. The same settings and drives give
    the same weights bit for bit on the same device with the same number of threads. Nothing is written, so a run that
    is stopped leaves nothing behind and starts anew.
    """
    device = torch.device(device)
    size = settings.image_height, settings.image_width
    data = read_train_set(source, train_ids, size, windows, device, progress)
    encoder = DriveViT(settings, source.channels, source.has_waypoints, windows.history).to(device)
    bins = ActionBins.fit(data.action[data.chunk])
    frame_loss = _train_image_part(encoder, data, bins, windows.horizon, progress)
    encoder.image.requires_grad_(False)
    features = _jittered_features(encoder, data, progress)
    losses = _train_window_part(encoder, settings, features, data, bins, windows.horizon, progress)
    encoder.summary = {
        "train_drives": list(train_ids),
        "train_digests": [source.digest(drive_id) for drive_id in train_ids],
        "train_windows": len(data),
        "final": {"frame_chunk_nats": frame_loss, **losses},
        "trivial": _trivial_losses(data, bins),
    }
    return encoder.freeze()


def _train_image_part(encoder: DriveViT, data: TrainSet, bins: ActionBins, horizon: int, progress: Progress) -> float:
    """Stage 1. The mean loss in nats per value over the last tenth of the steps."""
    settings = encoder.settings
    head = FrameHead(encoder.image.num_features, horizon, len(encoder.channels))
    _initialise_head(head, settings, "frame-head", data)
    now = data.history[:, -1]

    def loss(step: int) -> dict[str, Tensor]:
        generator = _stream(settings, "image", step)
        picked = torch.randint(len(data), (settings.image_batch,), generator=generator).to(now.device)
        features = encoder.image(jittered(data.frames, now[picked], generator))
        return {"frame_chunk_nats": bins.cross_entropy(head(features), data.action[data.chunk[picked]])}

    return _descend([encoder.image, head], loss, settings.image_steps, settings.train_lr, "image part", progress)[
        "frame_chunk_nats"
    ]


def train_temporal_part(
    encoder: HuggingFaceEncoder,
    source: Source,
    train_ids: Sequence[str],
    windows: WindowSettings,
    progress: Progress = SILENT,
    device: torch.device | str = "cpu",
) -> HuggingFaceEncoder:
    """The same encoder with its temporal part trained on the drives `train_ids` (stage 2 alone), frozen.

    Each frame passes the image part once, as it is; its features are held in memory, not the images.
    """
    device = torch.device(device)

    def encode(images: Tensor) -> Tensor:
        return encoder.image(images).pooled

    size = encoder.image_height, encoder.image_width
    data = read_train_set(source, train_ids, size, windows, device, progress, encode)
    bins = ActionBins.fit(data.action[data.chunk])
    once = data.frames.unsqueeze(0)
    losses = _train_window_part(encoder, encoder.temporal, once, data, bins, windows.horizon, progress)
    trivial = _trivial_losses(data, bins)
    encoder.summary = {
        "train_drives": list(train_ids),
        "train_digests": [source.digest(drive_id) for drive_id in train_ids],
        "train_windows": len(data),
        "final": losses,
        "trivial": {name: trivial[name] for name in losses},
    }
    return encoder.freeze()


def _train_window_part(
    encoder: DriveViT | HuggingFaceEncoder,
    settings: DriveViTSettings | TemporalSettings,
    features: Tensor,
    data: TrainSet,
    bins: ActionBins,
    horizon: int,
    progress: Progress,
) -> dict[str, float]:
    """Stage 2, on the features of every frame in one or several jitters (J, M, F). The mean losses over the last tenth
    of the steps.
    """
    assert encoder.window is not None
    head = TokenHeads(settings.width, settings.heads, horizon, encoder.history, len(encoder.channels))
    _initialise_head(head, settings, "token-head", data)

    def loss(step: int) -> dict[str, Tensor]:
        generator = _stream(settings, "window", step)
        batch = settings.window_batch
        picked = torch.randint(len(data), (batch,), generator=generator).to(data.history.device)
        jitter = torch.randint(len(features), (batch, 1), generator=generator).to(picked.device)
        keep = torch.rand(batch, 1, 1, generator=generator).to(picked.device) >= settings.history_dropout
        rows = data.history[picked]
        past, speed = data.action[rows] * keep, data.speed_mps[rows]
        waypoints = None if data.waypoints is None else data.waypoints[rows[:, -1]]
        tokens = encoder.window_tokens(features[jitter, rows], past, speed, waypoints)
        state = torch.cat([past, speed.unsqueeze(-1) / SPEED_SCALE_MPS], dim=-1).flatten(1)
        losses = {
            "chunk_nats": bins.cross_entropy(head.chunk_logits(tokens), data.action[data.chunk[picked]]),
            "past_l1": PAST_WEIGHT * F.l1_loss(head.past(tokens[:, 1]), state),
        }
        if waypoints is not None:
            losses["waypoint_l1"] = F.l1_loss(head.waypoint(tokens[:, 2:]), waypoints / WAYPOINT_SCALE_M)
        return losses

    losses = _descend([encoder.window, head], loss, settings.window_steps, settings.train_lr, "window part", progress)
    return {**losses, "past_l1": losses["past_l1"] / PAST_WEIGHT}


def _descend(
    modules: list[nn.Module],
    loss: Callable[[int], dict[str, Tensor]],
    steps: int,
    lr: float,
    what: str,
    progress: Progress,
) -> dict[str, float]:
    """Minimise the sum of `loss(step)` by AdamW, warm-up and a cosine to zero; each one's mean over the last steps."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    groups = [
        AdamWGroup([p for p in parameters if p.ndim >= 2], BETAS, WEIGHT_DECAY),
        AdamWGroup([p for p in parameters if p.ndim < 2], BETAS, 0.0),
    ]
    warmup, last = max(1, round(WARMUP_SHARE * steps)), max(1, round(REPORT_SHARE * steps))
    sums: dict[str, Tensor] = {}
    with progress.task(f"encoder: {what}", steps, "steps") as task:
        for step in range(steps):
            share = min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))
            losses = loss(step)
            for parameter in parameters:
                parameter.grad = None
            torch.stack(list(losses.values())).sum().backward()
            nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
            for group in groups:
                group.update(lr * share)
            if step >= steps - last:
                for name, value in losses.items():
                    sums[name] = sums.get(name, torch.zeros(())) + value.detach() / last
            task.advance()
    return {name: float(value) for name, value in sums.items()}


def jittered(images: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
    """The images at `rows`, uint8 -> floats about 0, each shifted a little and changed in brightness and contrast."""
    num, (height, width) = len(rows), images.shape[1:3]
    shift = torch.randint(-JITTER_PIXELS, JITTER_PIXELS + 1, (2, num, 1), generator=generator).to(rows.device)
    gain, offset = (torch.rand(2, num, 1, 1, 1, generator=generator).to(rows.device) * 2 - 1) * JITTER_LIGHT
    down = (torch.arange(height, device=rows.device) + shift[0]).clamp(0, height - 1)
    across = (torch.arange(width, device=rows.device) + shift[1]).clamp(0, width - 1)
    moved = images[rows[:, None, None], down[:, :, None], across[:, None, :]]
    return (moved.float() / 127.5 - 1.0) * (1 + gain) + offset


@torch.no_grad()
def _jittered_features(encoder: DriveViT, data: TrainSet, progress: Progress) -> Tensor:
    """(NUM_JITTERS, M, F): every frame through the image part once for each jitter."""
    blocks = torch.arange(len(data.frames), device=data.frames.device).split(ENCODE_BLOCK)
    out = []
    with progress.task("encoder: frames", NUM_JITTERS * len(data.frames), "frames") as task:
        for jitter in range(NUM_JITTERS):
            for index, rows in enumerate(blocks):
                generator = _stream(encoder.settings, "jitter", jitter, index)
                out.append(encoder.image(jittered(data.frames, rows, generator)))
                task.advance(len(rows))
    return torch.cat(out).unflatten(0, (NUM_JITTERS, -1))


def _trivial_losses(data: TrainSet, bins: ActionBins) -> dict[str, float]:
    """The same losses for a prediction that looks at nothing: the train marginal, or the train median."""
    chunk = bins.marginal_cross_entropy(data.action[data.chunk])
    state = torch.cat([data.action[data.history], data.speed_mps[data.history].unsqueeze(-1) / SPEED_SCALE_MPS], dim=-1)
    trivial = {"frame_chunk_nats": chunk, "chunk_nats": chunk, "past_l1": _l1_to_median(state)}
    if data.waypoints is not None:
        trivial["waypoint_l1"] = _l1_to_median(data.waypoints[data.history[:, -1]] / WAYPOINT_SCALE_M)
    return trivial


def _l1_to_median(value: Tensor) -> float:
    return float((value - value.median(dim=0).values).abs().mean())


def _initialise_head(head: nn.Module, settings: DriveViTSettings | TemporalSettings, name: str, data: TrainSet) -> None:
    initialise(head, _stream(settings, name))
    head.to(data.action.device)


def _stream(settings: DriveViTSettings | TemporalSettings, *names: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(settings.seed, "encoder", *names))
