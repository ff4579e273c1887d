"""Draws: the same for a run alone and in a cohort, whatever else is evaluated, and solved from the bank's noise."""

import numpy as np
import pytest
import torch

from flowlab.core.types import ConditionSpec, TokenGroup
from flowlab.evaluate import draws as draws_module
from flowlab.evaluate.bank import noise
from flowlab.evaluate.draws import draw, draw_model
from flowlab.policy.action_space import ActionSpace, Identity
from flowlab.policy.decoder import Decoder, initialise
from flowlab.policy.objectives import FlowMatching, Regression
from flowlab.study.recipe import DecoderSettings, EvaluationSettings, ObjectiveSettings
from tests.evaluate.made_frames import made_frames

CHANNELS = ("left", "right")
SPEC = ConditionSpec(12, (TokenGroup("tokens", 5),))
FLOW = FlowMatching([ObjectiveSettings()], True, torch.device("cpu"))
SPACE = ActionSpace(CHANNELS, CHANNELS, Identity())
SETTINGS = EvaluationSettings(draws=3, solver="heun", solver_steps=2)
DRIVES = ["a"] * 4 + ["b"] * 3
FRAMES = np.array([5, 6, 7, 8, 5, 6, 7])


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def condition():
    return torch.randn(7, 5, 12, generator=torch.Generator().manual_seed(0)).half()


def decoder_of(*seeds):
    decoder = Decoder(len(seeds), DecoderSettings(width=16, layers=2, heads=2), 4, len(CHANNELS), SPEC)
    initialise(decoder, seeds)
    return decoder


def silent(decoder):
    """The decoder with a velocity of 0: what is drawn is the noise itself."""
    torch.nn.init.zeros_(decoder.velocity.weight)
    torch.nn.init.zeros_(decoder.velocity.bias)
    return decoder


def frames_of(condition):
    """Four frames of drive a and three of drive b, of 4 slots."""
    truth = np.zeros((len(FRAMES), 4, len(CHANNELS)), np.float32)
    return made_frames(truth, CHANNELS, drive=[name == "b" for name in DRIVES], now=FRAMES, condition=condition)


def draws_of(decoder, condition, settings=SETTINGS):
    return draw(FLOW, decoder, SPACE, frames_of(condition), settings)


def test_a_run_in_a_cohort_of_4_draws_what_it_draws_alone_bit_for_bit(condition):
    seeds = (11, 12, 13, 11)
    together = draws_of(decoder_of(*seeds), condition)
    assert together.shape == (4, 7, 3, 4, 2)
    for run, seed in enumerate(seeds):
        assert np.array_equal(together[run], draws_of(decoder_of(seed), condition)[0])
    assert not np.array_equal(together[0], together[1])


def test_memory_blocks_change_nothing(condition, monkeypatch):
    whole = draws_of(decoder_of(11), condition)
    monkeypatch.setattr(draws_module, "CHUNKS_PER_BLOCK", 6)  # two frames at a time
    np.testing.assert_array_equal(draws_of(decoder_of(11), condition), whole)


def frames_at(rows):
    """Frames of one drive, 200 of which there are, with a condition of their own."""
    condition = torch.randn(200, 5, 12, generator=torch.Generator().manual_seed(1)).half()[rows]
    truth = np.zeros((len(rows), 4, len(CHANNELS)), np.float32)
    return made_frames(truth, CHANNELS, drive=[False] * len(rows), now=np.arange(200)[rows], condition=condition)


@pytest.mark.parametrize("num_draws", [1, 3, 8])
def test_a_frame_s_draws_do_not_depend_on_which_frames_they_are_made_with(num_draws):
    settings = SETTINGS.model_copy(update={"draws": num_draws, "solver_steps": 1})
    decoder, rows = decoder_of(11, 12), np.arange(200)
    whole = draw(FLOW, decoder, SPACE, frames_at(rows), settings)
    mixed = np.random.default_rng(0).permutation(200)
    for parts in (np.split(rows, [64, 128, 192]), np.split(rows, 2), np.split(mixed, [1, 3])):
        drawn = [draw(FLOW, decoder, SPACE, frames_at(part), settings) for part in parts]
        np.testing.assert_array_equal(np.concatenate(drawn, axis=1), whole[:, np.concatenate(parts)])


def test_model_draws_are_in_model_space_and_of_the_decoder_s_slots(condition):
    decoder = Decoder(1, DecoderSettings(width=16, layers=2, heads=2), 2, len(CHANNELS), SPEC)
    initialise(decoder, [11])
    model = draw_model(FLOW, decoder, frames_of(condition), SETTINGS)
    assert model.shape == (1, 7, 3, 2, 2)
    raw = draw(FLOW, decoder, SPACE, frames_of(condition), SETTINGS)
    np.testing.assert_array_equal(raw[:, :, :, :2], model)


def test_fewer_draws_are_the_first_of_more(condition):
    few = draws_of(decoder_of(11), condition, SETTINGS.model_copy(update={"draws": 2}))
    np.testing.assert_allclose(few, draws_of(decoder_of(11), condition)[:, :, :2], rtol=1e-5, atol=1e-6)


def test_a_decoder_without_velocity_gives_the_bank_s_noise_times_its_scale(condition):
    decoder = silent(decoder_of(11))
    bank = noise(DRIVES, FRAMES, num_draws=3, horizon=4, num_channels=2, bank_seed=0)
    scaled = draws_of(decoder, condition, SETTINGS.model_copy(update={"noise_scale": 0.5}))
    np.testing.assert_array_equal(scaled[0], np.float32(0.5) * bank)


def test_a_deterministic_objective_has_one_draw(condition):
    regression = Regression([ObjectiveSettings()], True, torch.device("cpu"))
    drawn = draw(regression, decoder_of(11), SPACE, frames_of(condition), SETTINGS)
    assert drawn.shape == (1, 7, 1, 4, 2)


def test_a_policy_of_fewer_slots_holds_its_last_one_and_starts_from_the_same_noise(condition):
    decoder = Decoder(1, DecoderSettings(width=16, layers=2, heads=2), 2, len(CHANNELS), SPEC)
    initialise(decoder, [11])
    drawn = draw(FLOW, silent(decoder), SPACE, frames_of(condition), SETTINGS)[0]
    bank = noise(DRIVES, FRAMES, num_draws=3, horizon=4, num_channels=2, bank_seed=0)
    np.testing.assert_array_equal(drawn[:, :, :2], bank[:, :, :2])
    np.testing.assert_array_equal(drawn[:, :, 2:], np.repeat(bank[:, :, 1:2], 2, axis=2))
