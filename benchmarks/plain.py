"""The plain way: one run of the published recipe, as a competent engineer writes it in ordinary PyTorch.

What flowlab is measured against. A map-style Dataset over the fp16 conditions in memory behind a DataLoader, plain
modules, torch.optim.AdamW, clip_grad_norm_, LambdaLR, AveragedModel where weights are averaged, and a sampler that
repeats each frame's condition K times and projects it anew at each evaluation. Each block may be recomputed in the
backward pass (`checkpoints`), as the published trainer has it; whoever knows that memory suffices leaves that away, so
both are always told. Nothing that computes is flowlab's own but the solver's formula and the schedule.

It is the control's shape alone (version 2, `kind = "transformer"`), with width, layers, heads and dropout to choose.
tests/benchmarks compares it with flowlab's decoder, weight by weight.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

from flowlab.policy.solver import solve
from flowlab.study.recipe import DecoderSettings, Recipe, TrainSettings
from flowlab.train.optimiser import schedule


class TimeEmbedding(nn.Module):
    """(B,) flow times -> (B, W)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        num_waves = width // 2 - 1
        rates = torch.exp(-math.log(10_000.0) * torch.arange(1, num_waves + 1) / num_waves)
        self.register_buffer("rates", 1000.0 * rates, persistent=False)
        self.eps = eps
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))

    def forward(self, t: Tensor) -> Tensor:
        t = t[:, None]
        angles = t * self.rates
        return self.mlp(torch.cat([angles.sin(), angles.cos(), t, 0.25 * torch.logit(t, self.eps)], dim=-1))


class Rotary(nn.Module):
    """Turns pairs of features of (B, heads, H, d) by the slot's place."""

    def __init__(self, horizon: int, head_width: int, base: float) -> None:
        super().__init__()
        rates = base ** (-torch.arange(0, head_width, 2) / head_width)
        angles = torch.arange(horizon)[:, None] * rates
        self.register_buffer("cos", angles.cos().repeat_interleave(2, dim=-1), persistent=False)
        self.register_buffer("sin", angles.sin().repeat_interleave(2, dim=-1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
        return x * self.cos + turned * self.sin


class CrossAttention(nn.Module):
    """Slots (B, H, W) ask tokens (B, S, W); keys and values are one product."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).flatten(-2))


class SelfAttention(nn.Module):
    """Slots (B, H, W) ask each other; queries, keys and values are one product."""

    def __init__(self, width: int, heads: int, dropout: float, rotary: Rotary) -> None:
        super().__init__()
        self.heads, self.dropout, self.rotary = heads, dropout, rotary
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = self.rotary(query), self.rotary(key)
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).flatten(-2))


class GatedMLP(nn.Module):
    """value * gelu(gate), then out."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.enter, self.leave, self.drop = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.enter(x).chunk(2, dim=-1)
        return self.leave(self.drop(value * F.gelu(gate)))


class Block(nn.Module):
    """Cross-attention, self-attention and MLP, each behind a norm that flow time shifts and scales."""

    def __init__(self, settings: DecoderSettings, rotary: Rotary) -> None:
        super().__init__()
        width, heads, dropout = settings.width, settings.heads, settings.dropout
        self.modulation = nn.Linear(width, 6 * width)
        self.cross = CrossAttention(width, heads, dropout)
        self.slots = SelfAttention(width, heads, dropout, rotary)
        self.mlp = GatedMLP(width, 4 * max(1, round(width * settings.mlp_multiplier / 4)), dropout)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, tokens: Tensor, time: Tensor) -> Tensor:
        parts = self.modulation(time)[:, None].chunk(6, dim=-1)
        x = x + self.cross(self.norm(x) * (1 + parts[1]) + parts[0], tokens)
        x = x + self.slots(self.norm(x) * (1 + parts[3]) + parts[2])
        return x + self.mlp(self.norm(x) * (1 + parts[5]) + parts[4])


class PlainDecoder(nn.Module):
    """x_t (B, H, M), flow times (B,) and condition (B, S, D) -> velocities (B, H, M).

    `checkpoints`: each block is computed once more in the backward pass instead of keeping what it made.
    """

    def __init__(
        self, settings: DecoderSettings, horizon: int, num_channels: int, condition_width: int, checkpoints: bool
    ) -> None:
        super().__init__()
        width = settings.width
        self.checkpoints = checkpoints
        self.condition = nn.Linear(condition_width, width)
        self.action = nn.Linear(num_channels, width)
        self.slot = nn.Parameter(nn.init.trunc_normal_(torch.empty(horizon, width), std=0.02))
        self.time = TimeEmbedding(width, settings.logit_limit)
        rotary = Rotary(horizon, width // settings.heads, settings.rotary_base)
        self.blocks = nn.ModuleList(Block(settings, rotary) for _ in range(settings.layers))
        self.velocity = nn.Linear(width, num_channels)

    def forward(self, xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        tokens, time = self.condition(condition), self.time(t)
        x = self.action(xt) + self.slot
        for block in self.blocks:
            if self.checkpoints and self.training:
                x = checkpoint(block, x, tokens, time, use_reentrant=False)
            else:
                x = block(x, tokens, time)
        return self.velocity(x)


@torch.no_grad()
def load_flowlab_weights(into: PlainDecoder, weights: Mapping[str, Tensor]) -> None:
    """Put one run's weights, by flowlab's names, into the plain decoder. flowlab keeps matrices as (in, out)."""
    for name, parameter in into.named_parameters():
        parameter.copy_(plain_tensor(name, weights))


ONE_PRODUCT = {"key_value": ("key", "value"), "query_key_value": ("query", "key", "value"), "out": ("leave",)}


def plain_tensor(name: str, weights: Mapping[str, Tensor]) -> Tensor:
    """What stands in flowlab's `weights` for the plain decoder's parameter of that name: a weight, a gradient."""
    if name == "slot":
        return weights["slot"]
    *path, layer, kind = name.replace("time.mlp.0", "time.enter").replace("time.mlp.2", "time.leave").split(".")
    if path == [] and layer == "condition":
        path, layer = ["condition"], "project"
    parts = [weights[".".join([*path, part, kind])] for part in ONE_PRODUCT.get(layer, (layer,))]
    return torch.cat([part.T if kind == "weight" else part for part in parts])


@dataclass(frozen=True)
class Windows(Dataset):
    """N windows in main memory: conditions (N, S, D) fp16, model-space chunks (N, H, M), maneuver weights (N, M)."""

    condition: Tensor
    action: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.condition)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.condition[row], self.action[row], self.weight[row]


def loader(windows: Windows, batch: int, seed: int) -> DataLoader:
    """Shuffled batches of one run. Beside a GPU four workers pin them; with one thread a worker would take its time."""
    workers = 4 if torch.cuda.is_available() else 0
    return DataLoader(
        windows,
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )


def flow_loss(
    model: nn.Module, batch: tuple[Tensor, Tensor, Tensor], noise: Tensor, t: Tensor, delta_weight: float
) -> Tensor:
    """Flow matching with maneuver weights and the delta loss, at given noise (B, H, M) and flow times (B,)."""
    condition, action, weight = batch
    at = t[:, None, None]
    xt = (1 - at) * noise + at * action
    v = model(xt, t, condition.float())
    loss = (weight[:, None] * (v - (action - noise)).square()).mean()
    implied = xt + (1 - at) * v
    delta = (implied.diff(dim=1) - action.diff(dim=1)).square()
    return loss + delta_weight * (weight[:, None] * delta).mean()


class PlainRun:
    """One run: model, optimiser, schedule and data, trained step by step."""

    def __init__(self, recipe: Recipe, windows: Windows, seed: int, device: torch.device, checkpoints: bool) -> None:
        torch.manual_seed(seed)
        self.recipe, self.device = recipe, device
        _, horizon, num_channels = windows.action.shape
        width = windows.condition.shape[-1]
        self.model = PlainDecoder(recipe.decoder, horizon, num_channels, width, checkpoints).to(device).train()
        self.optimiser = optimiser_of(self.model, recipe.train)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda step: schedule(step, recipe.train))
        self.average = average_of(self.model, recipe.train.ema_decay) if recipe.train.ema_decay else None
        self.loader = loader(windows, recipe.train.batch, seed)
        self.batches = self._batches()

    def _batches(self) -> Iterator[list[Tensor]]:
        while True:
            yield from self.loader

    def step(self) -> Tensor:
        """One training step; the loss before it, still on the device."""
        condition, action, weight = (part.to(self.device, non_blocking=True) for part in next(self.batches))
        law = self.recipe.objective.flow_time
        t = torch.sigmoid(law.mean + law.std * torch.randn(len(action), device=self.device))
        noise, delta_weight = torch.randn_like(action), self.recipe.objective.delta_weight
        loss = flow_loss(self.model, (condition, action, weight), noise, t, delta_weight)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.train.clip_norm)
        self.optimiser.step()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.model)
        return loss.detach()


def optimiser_of(model: nn.Module, train: TrainSettings) -> torch.optim.AdamW:
    """AdamW in two groups: matrices decay, biases and the slots' embedding do not."""
    named = list(model.named_parameters())
    decays = [parameter for name, parameter in named if parameter.ndim > 1 and name != "slot"]
    others = [parameter for name, parameter in named if parameter.ndim == 1 or name == "slot"]
    groups = [{"params": decays, "weight_decay": train.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=train.lr, betas=train.betas, foreach=True)


def average_of(model: nn.Module, decay: float) -> AveragedModel:
    """The moving average of the weights, whose decay starts low."""

    @torch.no_grad()
    def follow(averaged: list[Tensor], current: list[Tensor], steps: Tensor) -> None:
        done = int(steps)  # 1 after the first step
        torch._foreach_lerp_(averaged, current, 1.0 - min(decay, done / (9 + done)))

    average = AveragedModel(model, multi_avg_fn=follow)
    average.n_averaged += 1  # the initial weights count; at 0 the first average would be a copy of the first weights
    return average


@torch.no_grad()
def sample(model: PlainDecoder, condition: Tensor, noise: Tensor, solver: str, num_steps: int) -> Tensor:
    """Draws (N, K, H, M) from noise of that shape: each draw is a row of its own, with its frame's condition beside it.

    `model` in eval mode.
    """
    num_draws = noise.shape[1]
    repeated = condition.float().repeat_interleave(num_draws, dim=0)

    def velocity(x: Tensor, t: float) -> Tensor:
        return model(x, torch.full((len(x),), t, device=x.device), repeated)

    return solve(velocity, noise.flatten(0, 1), solver, num_steps).reshape(noise.shape)
