"""A plug-in decoder: any nn.Module without the run axis, stacked and mapped over runs by torch.func.vmap.

On a CPU the runs are computed one after the other instead: under vmap a matrix product may round differently for
several runs than for one, and a run must have the bits that it has alone.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from flowlab.core.errors import PluginError
from flowlab.core.plugins import told
from flowlab.core.seeds import derive_seed
from flowlab.core.types import ConditionSpec
from flowlab.policy.layers import Drop, StackedParameter, keep_all
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
            twin = _seeded(lambda: build(settings, spec, horizon, num_channels), seeds[0])
        except (Exception, SystemExit) as error:
            raise PluginError(f"decoder {settings.kind!r} cannot be built: {told(error)}. Correct it.") from error
        _require_plain(settings.kind, copies[0])
        again = twin.state_dict()
        if not all(torch.equal(value, again[name]) for name, value in copies[0].state_dict().items()):
            raise PluginError(
                f"decoder {settings.kind!r} starts from other weights when it is built again at the same seed: it "
                f"draws from another generator than torch's. Draw with torch."
            )
        self._template = [copy.deepcopy(copies[0]).to("meta")]  # in a list: its parameters are none of this module's
        states = [dict(made.named_parameters()) for made in copies]
        self._names = list(states[0])
        self._stacked = nn.ParameterList([_stack(copies[0], name, [of[name] for of in states]) for name in self._names])
        buffers = [dict(made.named_buffers()) for made in copies]
        self._buffer_names = list(buffers[0])
        for index, name in enumerate(self._buffer_names):
            self.register_buffer(f"buffer_{index}", torch.stack([of[name] for of in buffers]))
        self._try_out(settings.kind, spec, copies)

    def remember(self, condition: Tensor) -> Tensor:
        """The condition (R, B, S, D) itself: what could be kept of it only the plug-in knows."""
        return condition

    def forward(self, xt: Tensor, t: Tensor, memory: Tensor, drop: Drop = keep_all) -> Tensor:
        """Velocity (R, B, K, H, M) at x_t of that shape and flow time t, (R, B) or (R, 1)."""
        del drop
        state, inputs = self._state(), (xt, t.expand(xt.shape[:2]), memory)
        if xt.device.type != "cpu":
            return vmap(self._one_run)(state, *inputs)
        states = [{name: of[run].clone() for name, of in state.items()} for run in range(len(xt))]
        # clones: where memory is aligned has a say in how a product is rounded
        each = [self._one_run(state, *(x[run].clone() for x in inputs)) for run, state in enumerate(states)]
        return torch.stack(each)

    def _state(self) -> dict[str, Tensor]:
        """Every parameter and buffer (R, ...) by the plug-in's name for it."""
        buffers = {name: getattr(self, f"buffer_{index}") for index, name in enumerate(self._buffer_names)}
        return {**dict(zip(self._names, self._stacked, strict=True)), **buffers}

    def _one_run(self, state: dict[str, Tensor], xt: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return functional_call(self._template[0], state, (xt, t, condition))

    def named_stacked(self) -> list[tuple[str, StackedParameter]]:
        """Every parameter (R, ...) by the name that the plug-in gave it."""
        return list(zip(self._names, self._stacked, strict=True))

    def run_buffers(self, run: int) -> dict[str, Tensor]:
        """One run's buffers by the names that the plug-in gave them: they belong to the policy, and do not change."""
        return {name: value[run] for name, value in self._state().items() if name in self._buffer_names}

    def _try_out(self, kind: str, spec: ConditionSpec, copies: Sequence[nn.Module]) -> None:
        """Ask once for a velocity, and for each run compare it with what the run's own module says."""
        shape = (self.num_runs, 2, 3, self.horizon, self.num_channels)
        generator = torch.Generator().manual_seed(0)
        xt = torch.randn(shape, generator=generator)
        t = torch.rand(self.num_runs, 2, generator=generator)
        condition = torch.randn(self.num_runs, 2, spec.num_tokens, spec.width, generator=generator)
        before = [value.clone() for value in (xt, t, condition, *self.buffers())]
        try:
            velocity = vmap(self._one_run)(self._state(), xt, t, condition)
            velocity.square().sum().backward()
            alone = [made(*of) for made, *of in zip(copies, before[0].clone(), t, condition, strict=True)]
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"decoder {kind!r} cannot be trained as one program of several runs: {told(error)}. Random numbers "
                f"(dropout) and branches on values are not possible there."
            ) from error
        self.zero_grad()
        if velocity.shape != shape or velocity.dtype != torch.float32:
            raise PluginError(
                f"decoder {kind!r} gave a velocity of shape {tuple(velocity.shape[1:])} in {velocity.dtype}, expected "
                f"{shape[1:]} in torch.float32: (frames, draws, slots, channels), as its input."
            )
        after = (xt, t, condition, *self.buffers())
        if not all(torch.equal(old, new) for old, new in zip(before, after, strict=True)):
            raise PluginError(
                f"decoder {kind!r} changes its input or its buffers (batch norm?) while it runs: its answers would "
                f"depend on how often it was asked. Work on copies."
            )
        if not all(torch.allclose(one, of, rtol=1e-3, atol=1e-4) for one, of in zip(alone, velocity, strict=True)):
            raise PluginError(
                f"decoder {kind!r} holds numbers that are neither parameters nor buffers: its runs would share them. "
                f"Register them with register_buffer."
            )


def _require_plain(kind: str, module: object) -> None:
    """Raises PluginError for what is no module of trainable float32 parameters, each used under one name."""
    if not isinstance(module, nn.Module):
        raise PluginError(f"decoder {kind!r} gave {type(module).__name__}, expected a torch.nn.Module.")
    parameters = list(module.named_parameters(remove_duplicate=False))
    if not parameters:
        raise PluginError(f"decoder {kind!r} has no parameters: there is nothing to train.")
    names: dict[int, str] = {}
    for name, parameter in parameters:
        twin = names.setdefault(id(parameter), name)
        if twin != name:
            raise PluginError(f"decoder {kind!r} uses one parameter as {twin} and {name}. Share the layer instead.")
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
            raise PluginError(
                f"decoder {kind!r}: parameter {name} is {parameter.dtype} on {parameter.device}, expected "
                f"torch.float32 on the CPU, from where it is moved."
            )
        if not parameter.requires_grad:
            raise PluginError(f"decoder {kind!r}: parameter {name} is frozen. Register it as a buffer.")


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
    parameter.decays = last.endswith("weight") and values[0].ndim >= 2 and not is_embedding
    return parameter
