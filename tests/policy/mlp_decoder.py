"""A decoder as an outsider would write one: a plain nn.Module that knows nothing of runs."""

import random

import torch
from torch import nn


class MLPDecoder(nn.Module):
    """The whole chunk, the flow time and the mean condition token through one hidden layer."""

    def __init__(self, condition_width, horizon, num_channels, hidden):
        super().__init__()
        self.enter = nn.Linear(horizon * num_channels + 1 + condition_width, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.leave = nn.Linear(hidden, horizon * num_channels)

    def forward(self, xt, t, condition):
        """x_t (B, K, H, M), t (B,), condition (B, S, D) -> velocity (B, K, H, M)."""
        draws = xt.shape[1]
        time = t[:, None, None].expand(-1, draws, 1)
        pooled = condition.mean(dim=1)[:, None].expand(-1, draws, -1)
        hidden = self.norm(self.enter(torch.cat([xt.flatten(2), time, pooled], dim=-1))).relu()
        return self.leave(hidden).reshape(xt.shape)


def build(settings, spec, horizon, num_channels):
    """What `decoder.kind = "tests.policy.mlp_decoder:build"` names."""
    return MLPDecoder(spec.width, horizon, num_channels, settings.options.get("hidden", 32))


class WithEmbedding(MLPDecoder):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.kind = nn.Embedding(3, 4)


def build_with_embedding(settings, spec, horizon, num_channels):
    return WithEmbedding(spec.width, horizon, num_channels, 32)


class WithDropout(MLPDecoder):
    def forward(self, xt, t, condition):
        return nn.functional.dropout(super().forward(xt, t, condition), 0.1)


def build_with_dropout(settings, spec, horizon, num_channels):
    return WithDropout(spec.width, horizon, num_channels, 32)


class OneSlotShort(MLPDecoder):
    def forward(self, xt, t, condition):
        return super().forward(xt, t, condition)[:, :, 1:]


def build_one_slot_short(settings, spec, horizon, num_channels):
    return OneSlotShort(spec.width, horizon, num_channels, 32)


def build_nothing(settings, spec, horizon, num_channels):
    raise ValueError("no such model")


def build_a_tuple(settings, spec, horizon, num_channels):
    return (1, 2)


def build_without_parameters(settings, spec, horizon, num_channels):
    return nn.Identity()


def build_tied(settings, spec, horizon, num_channels):
    module = build(settings, spec, horizon, num_channels)
    module.again = nn.Linear(*module.enter.weight.shape[::-1])
    module.again.weight = module.enter.weight
    return module


def build_frozen(settings, spec, horizon, num_channels):
    module = build(settings, spec, horizon, num_channels)
    module.enter.bias.requires_grad_(False)
    return module


def build_doubled(settings, spec, horizon, num_channels):
    return build(settings, spec, horizon, num_channels).double()


class InPlace(MLPDecoder):
    def forward(self, xt, t, condition):
        return super().forward(xt.mul_(0.5), t, condition)


def build_in_place(settings, spec, horizon, num_channels):
    return InPlace(spec.width, horizon, num_channels, 32)


class Counting(MLPDecoder):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.register_buffer("asked", torch.zeros(()))

    def forward(self, xt, t, condition):
        self.asked.add_(1)
        return super().forward(xt, t, condition) + self.asked


def build_counting(settings, spec, horizon, num_channels):
    return Counting(spec.width, horizon, num_channels, 32)


class WithASecret(MLPDecoder):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.secret = torch.randn(())  # neither parameter nor buffer

    def forward(self, xt, t, condition):
        return super().forward(xt, t, condition) + self.secret


def build_with_a_secret(settings, spec, horizon, num_channels):
    return WithASecret(spec.width, horizon, num_channels, 32)


def build_unrepeatable(settings, spec, horizon, num_channels):
    module = build(settings, spec, horizon, num_channels)
    nn.init.constant_(module.enter.bias, random.SystemRandom().random())
    return module


class WithWaves(MLPDecoder):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.register_buffer("waves", torch.randn(2))

    def forward(self, xt, t, condition):
        return super().forward(xt, t, condition) + self.waves


def build_with_waves(settings, spec, horizon, num_channels):
    return WithWaves(spec.width, horizon, num_channels, 32)
