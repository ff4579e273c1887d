"""Asks a plug-in objective everything once, on a small decoder, before any run of it is registered."""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowlab.core.errors import PluginError
from flowlab.core.plugins import told
from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.core.vocabulary import ERROR_METRICS
from flowlab.policy.decoder import Decoder, initialise
from flowlab.policy.objectives import Batch, Objective
from flowlab.study.recipe import DecoderSettings

NUM_RUNS, NUM_FRAMES, NUM_DRAWS = 2, 3, 2
SPEC = ConditionSpec(8, (TokenGroup("tokens", 2),))


def check_objective(kind: str, objective: Objective, horizon: int, num_channels: int) -> None:
    """Raises PluginError, in one sentence, for the first promise of `Objective` that it breaks. It has two runs."""
    try:
        _check(objective, horizon, num_channels)
    except AssertionError as error:
        raise PluginError(f"objective {kind!r} {error}. See docs/plugins.md.") from None
    except (Exception, SystemExit) as error:
        raise PluginError(f"objective {kind!r} fails when it is asked: {told(error)}. See docs/plugins.md.") from error


def _check(objective: Objective, horizon: int, num_channels: int) -> None:
    for name, expected in (("error_metric", str), ("timed", bool), ("deterministic", bool)):
        got = getattr(objective, name, None)
        assert isinstance(got, expected), f"has {name} = {got!r}, expected a {expected.__name__}"
    metric = objective.error_metric
    assert metric not in ERROR_METRICS, f"calls its error {metric!r}, which is a metric of raw actions"
    generator = torch.Generator().manual_seed(0)
    decoder = Decoder(NUM_RUNS, DecoderSettings(width=8, layers=1, heads=1), horizon, num_channels, SPEC)
    initialise(decoder, range(NUM_RUNS))

    def normal(*shape: int) -> Tensor:
        return torch.randn(NUM_RUNS, *shape, generator=generator)

    memory = decoder.remember(normal(NUM_FRAMES, SPEC.num_tokens, SPEC.width))
    batch = Batch(
        action=normal(NUM_FRAMES, horizon, num_channels),
        noise=normal(NUM_FRAMES, horizon, num_channels),
        time_normal=normal(NUM_FRAMES),
        weight=normal(NUM_FRAMES, num_channels).abs(),
    )

    def no_drop(name: str, x: Tensor) -> Tensor:
        del name
        return x

    first, again = (objective.losses(decoder, memory, batch, no_drop) for _ in range(2))
    assert "loss" in first, f"reports {', '.join(first)}, expected a loss among it"
    for name, values in first.items():
        _require_shape(f"{name} in losses", values, (NUM_RUNS,))
        assert torch.equal(values, again[name]), (
            f"gives another {name} when asked again: its randomness is not the run's"
        )
    assert first["loss"].requires_grad, "gives a loss without a graph: nothing would be trained"
    first["loss"].sum().backward()
    with torch.no_grad():
        times = batch.time_normal.sigmoid()
        errors = objective.errors(decoder, memory, batch.action, batch.noise, times)
        _require_shape("errors", errors, (NUM_RUNS, NUM_FRAMES))
        if (law := getattr(objective, "times", None)) is not None:
            _require_shape("times", law(batch.time_normal), (NUM_RUNS, NUM_FRAMES))
        noise = normal(NUM_FRAMES, NUM_DRAWS, horizon, num_channels)
        _require_shape("sample", objective.sample(decoder, memory, noise, "euler", 1), tuple(noise.shape))


def _require_shape(what: str, got: object, expected: Sequence[int]) -> None:
    assert isinstance(got, Tensor), f"gives {what} as {type(got).__name__}, expected a tensor"
    assert got.shape == tuple(expected), f"gives {what} of shape {tuple(got.shape)}, expected {tuple(expected)}"
