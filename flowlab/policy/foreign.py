"""A plug-in decoder: any nn.Module without the run axis, stacked and mapped over runs by torch.func.vmap."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from flowlab.core.errors import PluginError
from flowlab.core.seeds import derive_seed
from flowlab.core.types import ConditionSpec
from flowlab.policy.decoder import Drop, keep_all
from flowlab.policy.layers import StackedParameter
from flowlab.study.recipe import DecoderSettings

Build = Callable[[DecoderSettings, ConditionSpec, int, int], nn.Module]
"""(settings, condition spec, horizon H, model channels M) -> a module with

forward(xt (B, K, H, M), t (B,) in [0, 1], condition (B, S, D)) -> velocity (B, K, H, M)
"""


class ForeignDecoder(nn.Module):
    """R copies of a plug-in's module, each initialised as its author does it, from its own run's seed.

    Weights of linear and convolutional layers decay, nothing else. Raises PluginError for a module that cannot be
    built or mapped over runs, that gives another shape, or that draws random numbers while it runs (nn.Dropout):
    lever and control could not share those.
    """

    def __init__(
        self,
        build: Build,
        settings: DecoderSettings,
        spec: ConditionSpec,
        horizon: int,
        num_channels: int,
        seeds: Sequence[int],
    ) -> None:
        super().__init__()
        self.num_runs, self.horizon, self.num_channels = len(seeds), horizon, num_channels
        try:
            copies = [_seeded(lambda: build(settings, spec, horizon, num_channels), seed) for seed in seeds]
        except Exception as error:
            raise PluginError(f"decoder {settings.kind!r} cannot be built: {error}.") from error
        self._template = [copy.deepcopy(copies[0]).to("meta")]  # in a list: its parameters are none of this module's
        states = [dict(made.named_parameters()) for made in copies]
        self._names = list(states[0])
        self._stacked = nn.ParameterList([_stack(copies[0], name, [of[name] for of in states]) for name in self._names])
        buffers = [dict(made.named_buffers()) for made in copies]
        self._buffer_names = list(buffers[0])
        for index, name in enumerate(self._buffer_names):
            self.register_buffer(f"buffer_{index}", torch.stack([of[name] for of in buffers]))
        self._try_out(settings.kind, spec)

    def remember(self, condition: Tensor) -> Tensor:
        """The condition (R, B, S, D) itself: what could be kept of it only the plug-in knows."""
        return condition

    def forward(self, xt: Tensor, t: Tensor, memory: Tensor, drop: Drop = keep_all) -> Tensor:
        """Velocity (R, B, K, H, M) at x_t of that shape and flow time t, (R, B) or (R, 1)."""
        del drop
        parameters = dict(zip(self._names, self._stacked, strict=True))
        buffers = {name: getattr(self, f"buffer_{index}") for index, name in enumerate(self._buffer_names)}

        def one_run(state: dict[str, Tensor], xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
            return functional_call(self._template[0], state, (xt, t, condition))

        return vmap(one_run)({**parameters, **buffers}, xt, t.expand(xt.shape[:2]), memory)

    def named_stacked(self) -> list[tuple[str, StackedParameter]]:
        """Every parameter (R, ...) by the name that the plug-in gave it."""
        return list(zip(self._names, self._stacked, strict=True))

    def _try_out(self, kind: str, spec: ConditionSpec) -> None:
        shape = (self.num_runs, 2, 3, self.horizon, self.num_channels)
        condition = torch.zeros(self.num_runs, 2, spec.num_tokens, spec.width)
        try:
            with torch.no_grad():
                velocity = self(torch.zeros(shape), torch.zeros(self.num_runs, 1), condition)
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            raise PluginError(f"decoder {kind!r} cannot be trained as one program of several runs: {reason}") from error
        if velocity.shape != shape:
            raise PluginError(
                f"decoder {kind!r} gave a velocity of shape {tuple(velocity.shape[1:])}, expected {shape[1:]}: "
                f"(frames, draws, slots, channels), as its input."
            )


def _seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """What `build` gives when torch's global generator stands at the stream (seed, "init"); it is then as before.

    The layers of torch initialise themselves from the global generator, and nothing else can be handed to them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "init"))
        return build()


def _stack(module: nn.Module, name: str, values: Sequence[Tensor]) -> StackedParameter:
    owner, _, last = name.rpartition(".")
    is_embedding = isinstance(module.get_submodule(owner), nn.Embedding)
    parameter = StackedParameter(torch.stack([value.detach() for value in values]))
    parameter.decays = last == "weight" and values[0].ndim >= 2 and not is_embedding
    return parameter
