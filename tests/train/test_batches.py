from dataclasses import replace

import pytest
import torch

from flowlab.core.errors import StudyError, UnknownNameError
from flowlab.policy.streams import stream
from flowlab.study.recipe import ManeuverWeights
from flowlab.train.cohort import Cohort, group_into_cohorts
from flowlab.train.data import Batches, Dropout, channel_alphas

CPU = torch.device("cpu")
FIELDS = ("action", "noise", "time_normal", "weight")


def same(first, second, run_first: int, run_second: int) -> bool:
    """Whether two results of `Batches.at` agree in those runs, bit for bit."""
    conditions = torch.equal(first[0][run_first], second[0][run_second])
    return conditions and all(
        torch.equal(getattr(first[1], name)[run_first], getattr(second[1], name)[run_second]) for name in FIELDS
    )


def test_runs_of_one_seed_see_the_same_whatever_their_lever(data, run_of):
    control = run_of(seed=1)
    lever = run_of(seed=1, lr=1e-4, dropout=0.5, delta_weight=0.0)
    batches = Batches(Cohort((control, run_of(seed=2), lever)), data)
    for step in (0, 5, 6, 13):
        both = batches.at(step)
        assert same(both, both, 0, 2)
        assert not same(both, both, 0, 1)


@pytest.mark.parametrize("change", [{"layers": 5}, {"steps": 99}, {"width": 32}, {"dropout": 0.0}])
def test_another_program_shifts_nothing(data, run_of, change):
    control, other = (Batches(Cohort((run,)), data) for run in (run_of(), run_of(**change)))
    assert all(same(control.at(step), other.at(step), 0, 0) for step in (0, 7, 12))


def test_a_run_gets_what_it_would_get_alone(data, run_of):
    runs = (run_of(seed=3), run_of(seed=1, alpha=0.25), run_of(seed=3, cap=1.5))
    together = Batches(Cohort(runs), data)
    for position, run in enumerate(runs):
        assert same(together.at(4), Batches(Cohort((run,)), data).at(4), position, 0)


def test_a_step_does_not_depend_on_the_steps_before(data, run_of):
    cohort = Cohort((run_of(),))
    walked = Batches(cohort, data)
    for step in range(13):
        walked.at(step)
    assert same(walked.at(13), Batches(cohort, data).at(13), 0, 0)
    assert same(walked.at(2), Batches(cohort, data).at(2), 0, 0)


def test_an_epoch_sees_no_window_twice_and_drops_the_rest(data, run_of):
    batches = Batches(Cohort((run_of(seed=1), run_of(seed=2))), data)
    assert batches.steps_per_epoch == 6  # 50 windows by 8
    for epoch in (0, 1):
        seen = torch.cat([batches.at(6 * epoch + i)[0] for i in range(6)], dim=1)
        for run in range(2):
            rows = [int((data.condition.float() == c).all(dim=(1, 2)).nonzero()) for c in seen[run]]
            assert len(set(rows)) == 48


def test_each_epoch_and_each_seed_has_an_order_of_its_own(data, run_of):
    batches = Batches(Cohort((run_of(seed=1), run_of(seed=2))), data)
    orders = [*batches.order(0), *batches.order(1)]
    assert all(sorted(order.tolist()) == list(range(50)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4


def test_noise_and_flow_times_are_standard_normal_and_new_at_each_step(data, run_of):
    batches = Batches(Cohort((run_of(),)), data)
    noise = torch.stack([batches.at(step)[1].noise for step in range(60)])
    times = torch.stack([batches.at(step)[1].time_normal for step in range(60)])
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    assert abs(times.mean()) < 0.2 and abs(times.std() - 1) < 0.2
    assert len(noise.flatten().unique()) > 0.99 * noise.numel()


def test_weights_belong_to_the_windows_of_the_batch_and_to_the_runs_law(data, run_of):
    batches = Batches(Cohort((run_of(), run_of(alpha=0.0))), data)
    _, batch = batches.at(0)
    rows = batches.order(0)[0, :8]
    assert torch.equal(batch.weight[0], data.density.weights(data.physical, [0.5, 0.5], 15.0)[rows])
    assert torch.equal(batch.weight[1], torch.ones(8, 2))
    assert torch.equal(batch.action[0], data.action[rows])


def test_a_batch_larger_than_the_split_is_an_error_that_names_both(data, run_of):
    with pytest.raises(StudyError, match=r"train.batch is 51, and the train split has 50 windows"):
        Batches(Cohort((run_of(batch=51),)), data)


def test_a_batch_of_the_whole_split_is_one_step_per_epoch(data, run_of):
    assert Batches(Cohort((run_of(batch=50),)), data).steps_per_epoch == 1


def masks(*runs, name="blocks.0.mlp", step=3, shape=(4, 500)):
    drop = Dropout(Cohort(runs), CPU)
    drop.step = step
    return drop(name, torch.ones(len(runs), *shape))


def test_dropout_zeroes_where_the_bits_of_the_named_stream_are_below_the_rate(run_of):
    low, high = masks(run_of(dropout=0.25), run_of(dropout=0.5))
    words = torch.empty(500, dtype=torch.int64)  # of four entries each
    words.random_(-(2**63), None, generator=stream(1, "dropout", "blocks.0.mlp", 3))
    share = (words.view(torch.int16).double() / 2**16 + 0.5).reshape(4, 500)
    assert torch.equal(low, (share >= 0.25) * torch.tensor(4 / 3))
    assert torch.equal(high, (share >= 0.5) * torch.tensor(2.0))


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.1, 0.5, 0.9999999])
def test_what_is_kept_makes_up_for_what_is_dropped(run_of, rate):
    """The rate is rounded to 65,536 levels, and what is kept is scaled by what is then kept on average."""
    found = masks(run_of(dropout=rate), shape=(4, 501))
    dropped = min(round(rate * 2**16), 2**16 - 1) / 2**16
    assert set(found.unique().tolist()) <= {0.0, torch.tensor(1 / (1 - dropped)).item()}
    assert (found == 0).float().mean().item() == pytest.approx(dropped, abs=0.03)


def test_what_a_low_rate_drops_a_high_rate_drops_too(run_of):
    low, high = masks(run_of(dropout=0.1), run_of(dropout=0.6))
    assert (high[low == 0] == 0).all()
    assert (low == 0).float().mean().item() == pytest.approx(0.1, abs=0.03)
    assert (high == 0).float().mean().item() == pytest.approx(0.6, abs=0.05)


def test_a_run_without_dropout_keeps_its_bits_beside_one_with_it(run_of):
    drop = Dropout(Cohort((run_of(dropout=0.5), run_of(dropout=0.0))), CPU)
    x = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drop("any", x)[1], x[1])
    assert not torch.equal(drop("any", x)[0], x[0])


def test_masks_differ_by_seed_by_place_and_by_step(run_of):
    run = run_of(dropout=0.5)
    variants = [
        masks(run),
        masks(run_of(seed=2, dropout=0.5)),
        masks(run, name="blocks.1.mlp"),
        masks(run, step=4),
    ]
    assert len({tuple(mask.flatten().tolist()) for mask in variants}) == 4


def test_masks_do_not_depend_on_the_company_or_the_depth(run_of):
    run = run_of(dropout=0.5)
    alone = masks(run)[0]
    assert torch.equal(masks(run_of(seed=9, dropout=0.9), run)[1], alone)
    assert torch.equal(masks(run_of(dropout=0.5, layers=8))[0], alone)


def test_runs_of_one_shape_share_cohorts_in_the_order_given(run_of):
    runs = [run_of(run_id="a"), run_of(run_id="b", layers=3), run_of(run_id="c", lr=1.0), run_of(run_id="d", seed=5)]
    groups = [[run.run_id for run in cohort.runs] for cohort in group_into_cohorts(runs, largest=2)]
    assert groups == [["a", "c"], ["d"], ["b"]]


def test_a_cohort_counts_its_distinct_seeds(run_of):
    cohort = Cohort((run_of(seed=7), run_of(seed=5), run_of(seed=7)))
    assert (cohort.size, cohort.seeds, cohort.seed_index) == (3, (7, 5), [0, 1, 0])


def with_train(run, **changes):
    train = run.recipe.train.model_copy(update=changes)
    return replace(run, recipe=run.recipe.model_copy(update={"train": train}))


def coupled(run):
    objective = run.recipe.objective.model_copy(update={"coupling": "optimal-transport"})
    return replace(run, recipe=run.recipe.model_copy(update={"objective": objective}))


def test_history_is_dropped_for_each_runs_share_and_for_the_same_samples_first(data, run_of):
    shares = (0.0, 0.25, 0.5, 1.0)
    batches = Batches(Cohort(tuple(with_train(run_of(), history_dropout=share) for share in shares)), data)
    dropped = []
    for step in range(60):
        rows = batches.order(step // 6)[0, step % 6 * 8 :][:8]
        condition = batches.at(step)[0]
        without = (condition == data.no_history[rows].float()).all(dim=(2, 3))
        assert torch.equal(condition[0], data.condition[rows].float())
        assert torch.equal(condition[~without], data.condition[rows].float().expand_as(condition)[~without])
        dropped.append(without)
    found = torch.cat(dropped, dim=1)  # (4, 480)
    assert found.float().mean(dim=1).tolist() == pytest.approx(shares, abs=0.07)
    assert found[3].all() and not found[0].any()
    assert (found[1] <= found[2]).all(), "what is dropped at 0.25 is dropped at 0.5 too"


def test_coupling_permutes_a_batchs_noise_and_shortens_its_paths(data, run_of):
    batches = Batches(Cohort((run_of(), coupled(run_of()), coupled(run_of(seed=2)))), data)
    without = Batches(Cohort((run_of(),)), data)
    for step in range(5):
        _, batch = batches.at(step)
        assert torch.equal(batch.noise[0], without.at(step)[1].noise[0])
        free, paired = batch.noise[0].flatten(1), batch.noise[1].flatten(1)
        assert sorted(map(tuple, free.tolist())) == sorted(map(tuple, paired.tolist()))
        actions = batch.action[0].flatten(1)
        assert (paired - actions).square().sum() < (free - actions).square().sum()
        assert torch.equal(batch.action[0], batch.action[1])


def test_one_slot_sees_the_noise_that_it_has_among_four(run_of, split_of):
    whole, cut = (Batches(Cohort((run_of(),)), split_of(50, slots=slots)[0]) for slots in (None, 1))
    assert torch.equal(cut.at(3)[1].noise, whole.at(3)[1].noise[:, :, :1])
    assert cut.at(3)[1].action.shape == (1, 8, 1, 2)
    assert torch.equal(cut.at(3)[1].weight, whole.at(3)[1].weight)


def test_an_alpha_for_a_channel_that_is_not_there_is_refused():
    with pytest.raises(UnknownNameError, match=r"unknown model channel 'stearing' .* did you mean 'steering'"):
        channel_alphas(ManeuverWeights(channel_alpha={"stearing": 1.0}), ("longitudinal", "steering"))
    assert channel_alphas(ManeuverWeights(channel_alpha={"steering": 1.0}), ("longitudinal", "steering")) == (0.5, 1.0)
