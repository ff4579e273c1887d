"""What every Objective promises, as tests that the author of one can run.

    class TestMyObjective(ObjectiveConformance):
        def make(self, settings, slots_in_time, device):
            return MyObjective(settings, slots_in_time, device)

pytest collects it by its name. The decoders in these tests are small, untrained, and moved off their zero-initialised
weights, so that flow time matters.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.policy.decoder import Decoder, initialise
from flowlab.policy.objectives import Batch, Objective
from flowlab.policy.streams import stream
from flowlab.study.recipe import DecoderSettings, FlowTime, ObjectiveSettings

NUM_FRAMES, NUM_DRAWS, NUM_SLOTS, NUM_CHANNELS = 6, 3, 4, 2
SPEC = ConditionSpec(12, (TokenGroup("tokens", 5),))
SEEDS = (1, 2, 1)
CPU = torch.device("cpu")


class ObjectiveConformance:
    """Subclass it as `Test...` and give `make`; give `settings` too if the objective looks at other ones."""

    @abstractmethod
    def make(self, settings: Sequence[ObjectiveSettings], slots_in_time: bool, device: torch.device) -> Objective:
        """The objective under test, for one run per item of `settings`."""

    def settings(self) -> list[ObjectiveSettings]:
        """Three runs' settings; they should differ in what the objective looks at."""
        early = FlowTime(kind="beta", alpha=2.0)
        return [
            ObjectiveSettings(),
            ObjectiveSettings(delta_weight=0.0, flow_time=FlowTime(kind="uniform")),
            ObjectiveSettings(delta_weight=3.0, flow_time=early),
        ]

    def test_says_what_it_is(self) -> None:
        objective = self.make(self.settings(), True, CPU)
        assert isinstance(objective.error_metric, str) and objective.error_metric
        assert isinstance(objective.timed, bool) and isinstance(objective.deterministic, bool)

    def test_gives_one_finite_loss_per_run_and_says_nothing_but_such_numbers(self) -> None:
        with _one_thread():
            reported = self._losses(range(3))
        assert "loss" in reported
        for name, values in reported.items():
            assert values.shape == (3,), name
            assert values.isfinite().all(), name

    def test_the_loss_reaches_the_decoder_and_only_the_loss_keeps_a_graph(self) -> None:
        decoder = _decoder(range(3))
        reported = self._losses(range(3), decoder)
        reported.pop("loss").sum().backward()
        gradient = decoder.velocity.weight.grad
        assert gradient is not None and (gradient.abs().amax(dim=(1, 2)) > 0).all()
        assert not any(values.requires_grad for values in reported.values())

    def test_errors_are_per_frame_and_not_negative(self) -> None:
        errors = self._errors(range(3))
        assert errors.shape == (3, NUM_FRAMES)
        assert (errors >= 0).all()

    def test_losses_follow_the_maneuver_weights_and_errors_do_not(self) -> None:
        heavy = self._losses(range(3), weigh=2.0)
        plain = self._losses(range(3))
        assert (heavy["loss"] > plain["loss"]).all()
        name = self.make(self.settings(), True, CPU).error_metric
        assert name not in plain or torch.equal(heavy[name], plain[name])

    def test_samples_have_the_shape_of_their_noise_and_repeat(self) -> None:
        with _one_thread():
            first, again = self._sample(range(3)), self._sample(range(3))
        assert first.shape == (3, NUM_FRAMES, NUM_DRAWS, NUM_SLOTS, NUM_CHANNELS)
        assert torch.equal(first, again)

    def test_draws_differ_unless_it_is_deterministic(self) -> None:
        draws = self._sample(range(3))
        differ = (draws != draws[:, :, :1]).flatten(3).any(dim=3)[:, :, 1:]  # (R, B, K - 1)
        if self.make(self.settings(), True, CPU).deterministic:
            assert not differ.any()
        else:
            assert differ.all()

    def test_errors_depend_on_flow_time_only_if_it_says_so(self) -> None:
        early, late = self._errors(range(3), time=0.2), self._errors(range(3), time=0.8)
        timed = self.make(self.settings(), True, CPU).timed
        assert timed != torch.equal(early, late)

    def test_a_run_in_a_cohort_equals_the_run_alone(self) -> None:
        with _one_thread():
            whole = _decoder(range(3))
            losses = self._losses(range(3), whole)
            losses["loss"].sum().backward()
            errors, draws = self._errors(range(3)), self._sample(range(3))
            for run in range(3):
                alone = _decoder([run])
                own = self._losses([run], alone)
                own["loss"].sum().backward()
                for name, values in own.items():
                    assert torch.equal(values[0], losses[name][run]), name
                for (name, parameter), (_, of) in zip(alone.named_stacked(), whole.named_stacked(), strict=True):
                    assert _equal(parameter.grad, of.grad, run), name
                assert torch.equal(self._errors([run])[0], errors[run])
                assert torch.equal(self._sample([run])[0], draws[run])

    def test_one_runs_nan_stays_with_that_run(self) -> None:
        with _one_thread():
            sound, struck = _decoder(range(3)), _decoder(range(3))
            before, after = self._losses(range(3), sound), self._losses(range(3), struck, spoil=1)
            before["loss"].sum().backward()
            after["loss"].sum().backward()
        assert after["loss"].isfinite().tolist() == [True, False, True]
        for run in (0, 2):
            assert torch.equal(before["loss"][run], after["loss"][run])
            for (name, parameter), (_, of) in zip(struck.named_stacked(), sound.named_stacked(), strict=True):
                assert _equal(parameter.grad, of.grad, run, run), name

    def test_a_chunk_of_one_slot_works(self) -> None:
        decoder = _decoder(range(3), horizon=1)
        batch = _batch(range(3), horizon=1)
        objective = self.make(self.settings(), False, CPU)
        memory = decoder.remember(_condition(range(3)))
        assert objective.losses(decoder, memory, batch)["loss"].isfinite().all()
        assert objective.sample(decoder, memory, _noise(range(3))[..., :1, :], "euler", 2).shape[3] == 1

    def _objective(self, runs: Sequence[int]) -> Objective:
        settings = self.settings()
        return self.make([settings[run] for run in runs], True, CPU)

    def _losses(
        self, runs: Sequence[int], decoder: Decoder | None = None, *, weigh: float = 1.0, spoil: int | None = None
    ) -> dict[str, Tensor]:
        decoder = decoder or _decoder(runs)
        batch = _batch(runs)
        batch = replace(batch, weight=weigh * batch.weight)
        if spoil is not None:
            batch.action[spoil, 0, 0, 0] = float("nan")
        return self._objective(runs).losses(decoder, decoder.remember(_condition(runs)), batch)

    @torch.no_grad()
    def _errors(self, runs: Sequence[int], time: float | None = None) -> Tensor:
        decoder, batch = _decoder(runs), _batch(runs)
        memory = decoder.remember(_condition(runs))
        times = _each(runs, "time", NUM_FRAMES).abs().clamp_max(1)
        times = times if time is None else torch.full_like(times, time)
        return self._objective(runs).errors(decoder, memory, batch.action, batch.noise, times)

    @torch.no_grad()
    def _sample(self, runs: Sequence[int]) -> Tensor:
        decoder = _decoder(runs)
        return self._objective(runs).sample(decoder, decoder.remember(_condition(runs)), _noise(runs), "heun", 2)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Bits are promised at one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _decoder(runs: Sequence[int], horizon: int = NUM_SLOTS) -> Decoder:
    settings = DecoderSettings(width=16, heads=2, layers=1)
    decoder = Decoder(len(runs), settings, horizon, NUM_CHANNELS, SPEC)
    initialise(decoder, [SEEDS[run] for run in runs])
    with torch.no_grad():
        for name, parameter in decoder.named_stacked():
            moved = torch.randn(parameter.shape[1:], generator=stream(0, "conformance", name))
            parameter.add_(moved, alpha=0.2)
    return decoder


def _each(runs: Sequence[int], name: str, *shape: int) -> Tensor:
    """(R, *shape) standard normals: what run r gets depends on r alone."""
    return torch.stack([torch.randn(shape, generator=stream(run, "conformance", name)) for run in runs])


def _condition(runs: Sequence[int]) -> Tensor:
    return _each(runs, "condition", NUM_FRAMES, SPEC.num_tokens, SPEC.width)


def _noise(runs: Sequence[int]) -> Tensor:
    return _each(runs, "draws", NUM_FRAMES, NUM_DRAWS, NUM_SLOTS, NUM_CHANNELS)


def _batch(runs: Sequence[int], horizon: int = NUM_SLOTS) -> Batch:
    shape = (NUM_FRAMES, horizon, NUM_CHANNELS)
    return Batch(
        action=_each(runs, "action", *shape),
        noise=_each(runs, "noise", *shape),
        time_normal=_each(runs, "time", NUM_FRAMES),
        weight=_each(runs, "weight", NUM_FRAMES, NUM_CHANNELS).abs(),
    )


def _equal(gradient: Tensor | None, other: Tensor | None, other_run: int, run: int = 0) -> bool:
    """Whether one run's gradient is another's, where no gradient at all is zero."""
    ours = None if gradient is None else gradient[run]
    theirs = None if other is None else other[other_run]
    if ours is None or theirs is None:
        return all(each is None or not each.any() for each in (ours, theirs))
    return torch.equal(ours, theirs)
